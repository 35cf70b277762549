// JSON from a request as values of the template engine, all of them marked as data. Keys keep their order, integers
// stay integers.
#pragma once

#include <string_view>

#include "loader/jinja_value.h"

namespace millrace::jinja {

// `what` opens messages. Errors: Errc::bad_argument for what is no JSON; a Fault where it is too large or too deep.
Value value_of_json(Heap& heap, std::string_view json, std::string_view what);

}  // namespace millrace::jinja
