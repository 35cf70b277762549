// The filters and tests of Jinja 3.1 that templates use, with Transformers' tojson. Names are case sensitive. A Fault
// for values they refuse.
#pragma once

#include <string_view>

#include "loader/jinja_call.h"

namespace millrace::jinja {

bool is_filter(std::string_view name);
bool is_test(std::string_view name);

// value | name(arguments) and value is name(arguments); Fault for a name that nobody defines.
Value apply_filter(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments);
bool apply_test(Heap& heap, std::string_view name, const Value& value, const Arguments& arguments);

// One table for each subject, each sorted by name.
std::span<const Native> text_filters();
std::span<const Native> sequence_filters();
std::span<const Native> selection_filters();
std::span<const Native> value_filters();

}  // namespace millrace::jinja
