// The tokens of a template, as Jinja 3.1 cuts them with trim_blocks and lstrip_blocks on and keep_trailing_newline off.
// Pure function, safe from any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loader/jinja_text.h"

namespace millrace::jinja {

enum class TokenKind {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  text,
  integer,
  real,
  sign,
  end
};

struct Token {
  TokenKind kind = TokenKind::end;
  Text value;  // data and text: the characters meant; others as written
  int line = 1;

  bool is(TokenKind wanted) const noexcept { return kind == wanted; }
  bool is_sign(std::u32string_view sign) const noexcept;
  bool is_name(std::u32string_view name) const noexcept;
};

// Comments and white space inside tags are gone; the last token is `end`. `name` opens messages.
// Errors: TemplateError for what is no token, for open comments and strings, for brackets that do not match.
std::vector<Token> lex(std::string_view source, const std::string& name);

// For messages: 'endif', 'end of statement block', ...
std::string describe(const Token& token);

}  // namespace millrace::jinja
