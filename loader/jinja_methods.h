// The methods of texts, lists and mappings that templates call as they would in Python. Pure functions.
#pragma once

#include <string_view>

#include "loader/jinja_call.h"

namespace millrace::jinja {

// A method that `object` has by that name; null if it has none.
const Native* find_method(const Value& object, std::string_view name);

const Native* find_text_method(std::string_view name);

// Whether it has the method in Python, but one that changes it, which templates may not do.
bool is_changing_method(const Value& object, std::string_view name);

// What filters share with the methods of texts.
Text replaced(Heap& heap, TextView text, TextView old, TextView with, Int most);
Text centered(TextView text, Int width, char32_t fill);
Value joined(Heap& heap, const Text& separator, const std::vector<Value>& items, bool markup);
TextView stripped(TextView text, const Text* characters, bool left, bool right);

}  // namespace millrace::jinja
