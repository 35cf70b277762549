// Operators, calls, filters and tests, rule by rule as in jinja2/parser.py of Jinja 3.1.
#include <algorithm>

#include "loader/jinja_filters.h"
#include "loader/jinja_parser_base.h"

namespace millrace::jinja {

using EKind = ExpressionKind;

ExpressionPtr ExpressionParser::parse_expression(bool with_conditional) {
  const Nesting nesting(*this);
  return with_conditional ? parse_conditional() : parse_or();
}

void ExpressionParser::forgive_unknown_since(std::size_t first) {
  for (std::size_t i = first; i < unknown_.size(); ++i) unknown_[i].conditional = true;
}

ExpressionPtr ExpressionParser::parse_conditional() {
  const Nesting nesting(*this);
  const std::size_t unknown = unknown_.size();
  const int line = current().line;
  ExpressionPtr value = parse_or();
  while (skip_name(U"if")) {
    std::vector<ExpressionPtr> items(3);
    items[0] = parse_or();
    items[1] = std::move(value);
    if (skip_name(U"else")) items[2] = parse_conditional();
    value = make(EKind::conditional, line, std::move(items));
    forgive_unknown_since(unknown);
  }
  return value;
}

namespace {

std::vector<ExpressionPtr> pair(ExpressionPtr left, ExpressionPtr right) {
  std::vector<ExpressionPtr> items;
  items.push_back(std::move(left));
  items.push_back(std::move(right));
  return items;
}

std::vector<ExpressionPtr> single(ExpressionPtr item) {
  std::vector<ExpressionPtr> items;
  items.push_back(std::move(item));
  return items;
}

}  // namespace

ExpressionPtr ExpressionParser::parse_or() {
  const int line = current().line;
  ExpressionPtr left = parse_and();
  while (skip_name(U"or")) left = make(EKind::logical_or, line, pair(std::move(left), parse_and()));
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  const int line = current().line;
  ExpressionPtr left = parse_not();
  while (skip_name(U"and")) left = make(EKind::logical_and, line, pair(std::move(left), parse_not()));
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  const int line = current().line;
  if (!skip_name(U"not")) return parse_compare();
  const Nesting nesting(*this);
  return make(EKind::logical_not, line, single(parse_not()));
}

ExpressionPtr ExpressionParser::parse_compare() {
  constexpr std::pair<std::u32string_view, Comparison> signs[] = {
      {U"==", Comparison::equal},      {U"!=", Comparison::not_equal}, {U"<", Comparison::less},
      {U"<=", Comparison::less_equal}, {U">", Comparison::greater},    {U">=", Comparison::greater_equal}};
  const int line = current().line;
  std::vector<ExpressionPtr> items = single(parse_sum());
  std::vector<Comparison> operators;
  while (true) {
    const auto* sign = std::find_if(std::begin(signs), std::end(signs),
                                    [this](const auto& entry) { return current().is_sign(entry.first); });
    if (sign != std::end(signs)) {
      operators.push_back(sign->second);
    } else if (current().is_name(U"in")) {
      operators.push_back(Comparison::in);
    } else if (current().is_name(U"not") && next().is_name(U"in")) {
      operators.push_back(Comparison::not_in);
      take();
    } else {
      break;
    }
    take();
    items.push_back(parse_sum());
  }
  if (operators.empty()) return std::move(items[0]);
  ExpressionPtr result = make(EKind::compare, line, std::move(items));
  result->operators = std::move(operators);
  return result;
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concatenation();
  while (current().is_sign(U"+") || current().is_sign(U"-")) {
    const Token sign = take();
    left = make(sign.is_sign(U"+") ? EKind::add : EKind::subtract, sign.line,
                pair(std::move(left), parse_concatenation()));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concatenation() {
  const int line = current().line;
  std::vector<ExpressionPtr> items = single(parse_product());
  while (skip_sign(U"~")) items.push_back(parse_product());
  if (items.size() == 1) return std::move(items[0]);
  return make(EKind::concatenate, line, std::move(items));
}

ExpressionPtr ExpressionParser::parse_product() {
  constexpr std::pair<std::u32string_view, ExpressionKind> signs[] = {
      {U"*", EKind::multiply}, {U"/", EKind::divide}, {U"//", EKind::floor_divide}, {U"%", EKind::modulo}};
  ExpressionPtr left = parse_power();
  while (true) {
    const auto* sign = std::find_if(std::begin(signs), std::end(signs),
                                    [this](const auto& entry) { return current().is_sign(entry.first); });
    if (sign == std::end(signs)) return left;
    const int line = take().line;
    left = make(sign->second, line, pair(std::move(left), parse_power()));
  }
}

ExpressionPtr ExpressionParser::parse_power() {
  const int line = current().line;
  ExpressionPtr left = parse_unary();
  while (skip_sign(U"**")) left = make(EKind::power, line, pair(std::move(left), parse_unary()));
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  const int line = current().line;
  ExpressionPtr result;
  if (skip_sign(U"-"))
    result = make(EKind::negative, line, single(parse_unary(false)));
  else if (skip_sign(U"+"))
    result = make(EKind::positive, line, single(parse_unary(false)));
  else
    result = parse_primary();
  result = parse_postfix(std::move(result));
  return with_filters ? parse_filters_and_tests(std::move(result)) : std::move(result);
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr operand) {
  while (true) {
    if (current().is_sign(U"."))
      operand = parse_attribute(std::move(operand));
    else if (current().is_sign(U"["))
      operand = parse_subscript(std::move(operand));
    else if (current().is_sign(U"("))
      operand = parse_call(std::move(operand));
    else
      return operand;
  }
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr operand) {
  take();
  const int line = current().line;
  if (current().is(TokenKind::integer)) return make(EKind::subscript, line, pair(std::move(operand), parse_number()));
  ExpressionPtr result = make(EKind::attribute, line, single(std::move(operand)));
  result->name = expect_name();
  result->value = Value::object(Kind::text, std::make_shared<const String>(to_text(result->name)));
  return result;
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr operand) {
  const int line = take().line;
  std::vector<ExpressionPtr> items;
  while (!current().is_sign(U"]")) {
    if (!items.empty()) expect_sign(U",");
    items.push_back(parse_subscript_item());
  }
  if (items.empty()) fail_here("expected an expression, found " + describe(current()));
  expect_sign(U"]");
  ExpressionPtr item = items.size() == 1 ? std::move(items[0]) : make(EKind::tuple, line, std::move(items));
  return make(EKind::subscript, line, pair(std::move(operand), std::move(item)));
}

ExpressionPtr ExpressionParser::parse_subscript_item() {
  const int line = current().line;
  std::vector<ExpressionPtr> parts(3);
  if (!current().is_sign(U":")) {
    parts[0] = parse_expression();
    if (!current().is_sign(U":")) return std::move(parts[0]);
  }
  for (std::size_t i = 1; i < 3 && skip_sign(U":"); ++i)
    if (!current().is_sign(U":") && !current().is_sign(U"]") && !current().is_sign(U",")) parts[i] = parse_expression();
  return make(EKind::slice, line, std::move(parts));
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr operand) {
  ExpressionPtr call = make(EKind::call, current().line, single(std::move(operand)));
  parse_arguments(call->arguments);
  settle(*call);
  return call;
}

void ExpressionParser::parse_arguments(CallArguments& arguments) {
  expect_sign(U"(");
  bool first = true;
  while (!current().is_sign(U")")) {
    if (!first) expect_sign(U",");
    if (current().is_sign(U")") && !first) break;
    first = false;
    if (skip_sign(U"*")) {
      if (arguments.star || arguments.double_star) fail_here("invalid syntax for function call expression");
      arguments.star = parse_expression();
    } else if (skip_sign(U"**")) {
      if (arguments.double_star) fail_here("invalid syntax for function call expression");
      arguments.double_star = parse_expression();
    } else if (current().is(TokenKind::name) && next().is_sign(U"=")) {
      if (arguments.double_star) fail_here("invalid syntax for function call expression");
      std::string name = expect_name();
      take();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else {
      if (arguments.star || arguments.double_star || !arguments.named.empty())
        fail_here("invalid syntax for function call expression: a positional argument after a named one");
      arguments.positional.push_back(parse_expression());
    }
  }
  expect_sign(U")");
}

std::string ExpressionParser::parse_dotted_name() {
  std::string name = expect_name();
  while (skip_sign(U".")) {
    name += '.';
    name += expect_name();
  }
  return name;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr operand, bool at_start) {
  while (at_start || current().is_sign(U"|")) {
    if (!at_start) take();
    at_start = false;
    const int line = current().line;
    ExpressionPtr filter = make(EKind::filter, line, single(std::move(operand)));
    filter->name = parse_dotted_name();
    if (!is_filter(filter->name)) unknown_.push_back({line, "there is no filter named '" + filter->name + "'", false});
    if (current().is_sign(U"(")) parse_arguments(filter->arguments);
    settle(*filter);
    operand = std::move(filter);
  }
  return operand;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr operand) {
  const int line = take().line;
  const bool negated = skip_name(U"not");
  ExpressionPtr test = make(EKind::test, line, single(std::move(operand)));
  test->name = parse_dotted_name();
  if (!is_test(test->name)) unknown_.push_back({line, "there is no test named '" + test->name + "'", false});
  const Token& token = current();
  const bool begins_argument = token.is(TokenKind::name) || token.is(TokenKind::text) || token.is(TokenKind::integer) ||
                               token.is(TokenKind::real) || token.is_sign(U"[") || token.is_sign(U"{");
  if (token.is_sign(U"(")) {
    parse_arguments(test->arguments);
  } else if (begins_argument && !token.is_name(U"else") && !token.is_name(U"or") && !token.is_name(U"and")) {
    if (token.is_name(U"is")) fail_here("tests cannot be chained with 'is'");
    const Nesting nesting(*this);
    ExpressionPtr argument = parse_primary();
    test->arguments.positional.push_back(parse_postfix(std::move(argument)));
  }
  settle(*test);
  return negated ? make(EKind::logical_not, line, single(std::move(test))) : std::move(test);
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr operand) {
  while (true) {
    if (current().is_sign(U"|"))
      operand = parse_filters(std::move(operand), false);
    else if (current().is_name(U"is"))
      operand = parse_test(std::move(operand));
    else if (current().is_sign(U"("))
      operand = parse_call(std::move(operand));
    else
      return operand;
  }
}

}  // namespace millrace::jinja
