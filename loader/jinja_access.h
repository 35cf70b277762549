// value.name and value[key] as Jinja's sandbox looks them up: what is not there is undefined and no error, but an
// attribute of undefined is one. Methods that would change a value count as not there.
#pragma once

#include <string>

#include "loader/jinja_value.h"

namespace millrace::jinja {

// `key` is `name` as a text.
Value get_attribute(Heap& heap, const Value& object, const std::string& name, const Value& key);
Value get_item(Heap& heap, const Value& object, const Value& key);
// Bounds may be none. Fault for what cannot be sliced.
Value get_slice(Heap& heap, const Value& object, const Value& start, const Value& stop, const Value& step);

// "a.0.b" of filters with an attribute argument: get_item() part by part. `otherwise`, unless null, stands for what is
// undefined.
Value get_path(Heap& heap, const Value& object, const Value& path, const Value* otherwise = nullptr);

}  // namespace millrace::jinja
