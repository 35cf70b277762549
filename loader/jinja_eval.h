// Renders a syntax tree. Everything a template can do is bounded: steps, memory, sizes, call depth and nesting.
// One thread per rendering; trees may be shared.
#pragma once

#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "loader/jinja_ast.h"
#include "loader/jinja_value.h"

namespace millrace::jinja {

struct Context {
  std::vector<std::pair<std::string, Value>> variables;
  std::tm now{};  // what strftime_now() shows
};

// `name` opens messages. The values of `context` belong to `heap`. Errors: TemplateError.
Text render(const Tree& tree, const std::string& name, Heap& heap, const Context& context);

// name, arguments, ... of a macro; false if it has no such attribute.
bool macro_attribute(Heap& heap, const Macro& macro, const std::string& name, Value& result);

}  // namespace millrace::jinja
