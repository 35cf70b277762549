// HTML escaping as MarkupSafe does it. Pure functions.
#pragma once

#include "loader/jinja_value.h"

namespace millrace::jinja {

// The text of any value with & < > " ' escaped; of markup as it is. An escape has the mark of its character.
Text escaped(Heap& heap, const Value& value);
Text escaped_text(TextView text);

}  // namespace millrace::jinja
