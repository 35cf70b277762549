// Templates to syntax trees, with the grammar of Jinja 3.1, loop controls and Transformers' generation block. Pure
// function, safe from any thread.
#pragma once

#include <string>
#include <string_view>

#include "loader/jinja_ast.h"

namespace millrace::jinja {

// `name` opens messages. Errors: TemplateError for what Jinja refuses too, for include, import and extends (a chat
// template stands alone), and for nesting deeper than deepest_nesting.
Tree parse(std::string_view source, const std::string& name);

}  // namespace millrace::jinja
