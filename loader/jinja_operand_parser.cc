// What operators work on: names, literals, tuples; and what a template can set. As in jinja2/parser.py of Jinja 3.1.
#include <cstdlib>

#include "loader/jinja_numbers.h"
#include "loader/jinja_parser_base.h"

namespace millrace::jinja {

using EKind = ExpressionKind;

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = current();
  if (token.is(TokenKind::text)) return parse_strings();
  if (token.is(TokenKind::integer) || token.is(TokenKind::real)) return parse_number();
  if (skip_sign(U"(")) {
    ExpressionPtr inner = parse_tuple(true, {}, true);
    expect_sign(U")");
    return inner;
  }
  if (token.is_sign(U"[")) return parse_list();
  if (token.is_sign(U"{")) return parse_dict();
  if (!token.is(TokenKind::name)) fail_here("expected an expression, found " + describe(token));

  const int line = token.line;
  const std::string name = to_utf8(take().value);
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    ExpressionPtr constant = make(EKind::constant, line);
    constant->value = Value::boolean(name[0] == 't' || name[0] == 'T');
    return constant;
  }
  if (name == "none" || name == "None") return make(EKind::constant, line);
  ExpressionPtr result = make(EKind::name, line);
  result->name = name;
  result->symbol = symbol_of(name);
  if (result->symbol <= symbol_kwargs)
    for (unsigned& uses : macro_uses_) uses |= 1U << result->symbol;
  return result;
}

ExpressionPtr ExpressionParser::parse_number() {
  const Token token = take();
  const std::string digits = to_utf8(token.value);
  ExpressionPtr constant = make(EKind::constant, token.line);
  if (token.is(TokenKind::real)) {
    constant->value = Value::real(std::strtod(digits.c_str(), nullptr));
    return constant;
  }
  try {
    constant->value = parse_int(digits, 0);
  } catch (const Fault& fault) {
    fail_at(token.line, fault.what());
  }
  return constant;
}

ExpressionPtr ExpressionParser::parse_strings() {
  ExpressionPtr constant = make(EKind::constant, current().line);
  Text text;
  while (current().is(TokenKind::text)) text += take().value;
  constant->value = Value::object(Kind::text, std::make_shared<const String>(std::move(text)));
  return constant;
}

ExpressionPtr ExpressionParser::parse_list() {
  const int line = take().line;
  std::vector<ExpressionPtr> items;
  while (!current().is_sign(U"]")) {
    if (!items.empty()) expect_sign(U",");
    if (current().is_sign(U"]")) break;
    items.push_back(parse_expression());
  }
  expect_sign(U"]");
  return make(EKind::list, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_dict() {
  const int line = take().line;
  std::vector<ExpressionPtr> items;
  while (!current().is_sign(U"}")) {
    if (!items.empty()) expect_sign(U",");
    if (current().is_sign(U"}")) break;
    items.push_back(parse_expression());
    expect_sign(U":");
    items.push_back(parse_expression());
  }
  expect_sign(U"}");
  return make(EKind::dict, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_conditional, std::u32string_view end_name, bool parenthesized) {
  const int line = current().line;
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  const auto at_end = [&] {
    const Token& token = current();
    return token.is(TokenKind::variable_end) || token.is(TokenKind::block_end) || token.is_sign(U")") ||
           (!end_name.empty() && token.is_name(end_name));
  };
  while (!at_end()) {
    items.push_back(parse_expression(with_conditional));
    if (!current().is_sign(U",")) break;
    is_tuple = true;
    take();
  }
  if (is_tuple || (items.empty() && parenthesized)) return make(EKind::tuple, line, std::move(items));
  if (items.empty()) fail_here("expected an expression, found " + describe(current()));
  return std::move(items[0]);
}

ExpressionPtr ExpressionParser::parse_target(std::u32string_view end_name, bool spaces) {
  const int line = current().line;
  if (spaces && current().is(TokenKind::name) && next().is_sign(U".")) {
    const std::string space = expect_name();
    take();
    ExpressionPtr target = make(EKind::space_attribute, line);
    target->symbol = symbol_of(space);
    target->name = expect_name();
    return target;
  }
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!(current().is(TokenKind::block_end) || current().is_sign(U"=") || current().is_sign(U")") ||
           (!end_name.empty() && current().is_name(end_name)))) {
    const Nesting nesting(*this);
    items.push_back(parse_primary());
    if (!current().is_sign(U",")) break;
    is_tuple = true;
    take();
  }
  if (items.empty()) fail_here("expected a name to set, found " + describe(current()));
  ExpressionPtr target = is_tuple ? make(EKind::tuple, line, std::move(items)) : std::move(items[0]);
  check_assignable(*target);
  return target;
}

void ExpressionParser::check_assignable(const Expression& target) const {
  if (target.kind == EKind::tuple) {
    for (const ExpressionPtr& item : target.items) check_assignable(*item);
  } else if (target.kind != EKind::name) {
    fail_at(target.line, "cannot set what is not a name");
  }
}

std::string ExpressionParser::parse_target_name() {
  const std::string name = expect_name();
  for (const char* reserved : {"true", "True", "false", "False", "none", "None"})
    if (name == reserved) fail_here("cannot set '" + name + "'");
  return name;
}

}  // namespace millrace::jinja
