// Python's two ways to fill in a text: "%s of %d" and "{} of {name:>5}". A Fault for what Python refuses and for
// widths beyond the limits. Filled-in characters keep their marks; padding has the mark of the format.
#pragma once

#include "loader/jinja_value.h"

namespace millrace::jinja {

// `values` is a tuple, a mapping, or one value.
Value percent_format(Heap& heap, const Value& format, const Value& values);

// str.format(); fields may name arguments, their items and their keys, but no attributes.
Value brace_format(Heap& heap, const Value& format, const Arguments& arguments);

}  // namespace millrace::jinja
