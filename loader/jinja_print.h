// How values become text: Python's str() and repr(), and JSON as Transformers configures json.dumps(). What is printed
// of data is marked as data, its brackets and quotes included.
#pragma once

#include <optional>
#include <string>

#include "loader/jinja_value.h"

namespace millrace::jinja {

// str(): a text as it is, undefined as nothing.
Text to_str(Heap& heap, const Value& value);
Text to_repr(Heap& heap, const Value& value);

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<Text> indent;  // of one level
  std::optional<Text> item_separator, key_separator;
};
// Fault for what JSON has no form for, undefined included.
Text to_json(Heap& heap, const Value& value, const JsonStyle& style);

std::string int_text(Int value);
// The shortest text that reads back as the same number, in Python's form: 1e-07, 1e+22, 2.0, nan, inf.
std::string float_text(double value);

}  // namespace millrace::jinja
