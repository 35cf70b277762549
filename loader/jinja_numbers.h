// Python's arithmetic on values: + and * of texts and lists included. A Fault for what Python refuses, and for
// integers beyond 127 bits. Results from data are data.
#pragma once

#include <string_view>

#include "loader/jinja_ast.h"
#include "loader/jinja_value.h"

namespace millrace::jinja {

// `operation` is one of ExpressionKind::add to power.
Value arithmetic(Heap& heap, ExpressionKind operation, const Value& a, const Value& b);
Value negated(const Value& value);
Value not_negated(const Value& value);

// int(text, base) and float(text) of Python, white space around it allowed; none if the text is no number. Base 0 reads
// the prefix. Integers beyond 127 bits are a Fault.
Value parse_int(std::string_view text, int base);
Value parse_float(std::string_view text);

// A double as an integer, towards zero; Fault if it is none or too large.
Int truncated(double value);

}  // namespace millrace::jinja
