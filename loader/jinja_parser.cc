#include "loader/jinja_parser.h"

#include <algorithm>
#include <array>

#include "loader/jinja_parser_base.h"
#include "loader/unicode.h"

namespace millrace::jinja {

ParserBase::ParserBase(std::vector<Token> tokens, const std::string& name) : name_(name), tokens_(std::move(tokens)) {
  for (const char* fixed : {"loop", "caller", "varargs", "kwargs"}) symbol_of(fixed);
}

Token ParserBase::take() {
  return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_];
}

bool ParserBase::skip_name(std::u32string_view name) {
  if (!current().is_name(name)) return false;
  take();
  return true;
}

bool ParserBase::skip_sign(std::u32string_view sign) {
  if (!current().is_sign(sign)) return false;
  take();
  return true;
}

void ParserBase::expect_sign(std::u32string_view sign) {
  if (!skip_sign(sign))
    fail_here("expected '" + to_utf8(Text(sign.begin(), sign.end())) + "', found " + describe(current()));
}

void ParserBase::expect(TokenKind kind, const char* what) {
  if (!current().is(kind)) fail_here(std::string("expected ") + what + ", found " + describe(current()));
  take();
}

std::string ParserBase::expect_name() {
  if (!current().is(TokenKind::name)) fail_here("expected a name, found " + describe(current()));
  return to_utf8(take().value);
}

int ParserBase::symbol_of(const std::string& name) {
  const auto [place, is_new] = symbol_numbers_.try_emplace(name, static_cast<int>(symbols_.size()));
  if (is_new) symbols_.push_back(name);
  return place->second;
}

ExpressionPtr ParserBase::make(ExpressionKind kind, int line, std::vector<ExpressionPtr> items) {
  constexpr std::size_t most_nodes = 200'000;
  if (++nodes_ > most_nodes) fail_at(line, "over the limit: more than 200000 expressions");
  auto expression = std::make_unique<Expression>(Expression{.kind = kind, .line = line});
  expression->items = std::move(items);
  settle(*expression);
  return expression;
}

void ParserBase::settle(Expression& expression) const {
  const auto include = [&](const ExpressionPtr& inner) {
    if (inner) expression.depth = std::max(expression.depth, inner->depth + 1);
  };
  for (const ExpressionPtr& item : expression.items) include(item);
  for (const ExpressionPtr& item : expression.arguments.positional) include(item);
  for (const auto& [name, item] : expression.arguments.named) include(item);
  include(expression.arguments.star);
  include(expression.arguments.double_star);
  if (expression.depth > deepest_nesting)
    fail_at(expression.line, fmt::format("nesting of expressions deeper than {}", deepest_nesting));
}

ParserBase::Nesting::Nesting(ParserBase& parser, int weight) : parser_(parser), weight_(weight) {
  if (parser_.nesting_ >= 3 * deepest_nesting)
    parser_.fail_here(fmt::format("nesting deeper than {}", deepest_nesting));
  parser_.nesting_ += weight_;
}

namespace {

class Parser : private ExpressionParser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name) : ExpressionParser(std::move(tokens), name) {}

  Tree run() {
    Tree tree;
    tree.body = parse_body({});
    for (const Unknown& unknown : unknown_)
      if (!unknown.conditional) fail_at(unknown.line, unknown.what);
    tree.symbols = std::move(symbols_);
    return tree;
  }

 private:
  using Ends = std::vector<std::u32string_view>;
  using StatementPtr = std::unique_ptr<Statement>;

  // Up to a tag in `ends`, which stays the current token, or the end of the template if there are none.
  Statements parse_body(const Ends& ends);
  // The rest of a tag, then its body; takes the name that ended it.
  Token parse_block(Statements& body, const Ends& ends);
  void check_end(const Ends& ends) const;
  StatementPtr parse_statement();
  StatementPtr parse_if();
  StatementPtr parse_for();
  StatementPtr parse_set();
  StatementPtr parse_with();
  StatementPtr parse_macro();
  StatementPtr parse_call();
  StatementPtr parse_filter_block();
  StatementPtr parse_scope(std::u32string_view end);
  void parse_parameters(Statement& statement);
  void parse_macro_body(Statement& statement, std::u32string_view end);
  StatementPtr make_statement(StatementKind kind) const {
    return std::make_unique<Statement>(Statement{.kind = kind, .line = current().line});
  }

  struct Open {
    std::string tag;
    int line;
  };
  std::vector<Open> open_;  // blocks that wait for their end
};

std::string listed(const std::vector<std::u32string_view>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "'" : " or '") + to_utf8(Text(name.begin(), name.end())) + "'";
  return text;
}

void Parser::check_end(const Ends& ends) const {
  if (!current().is(TokenKind::end) || ends.empty()) return;
  fail_at(open_.back().line, fmt::format("the block '{}' of line {} is not closed: the template ends, expected {}",
                                         open_.back().tag, open_.back().line, listed(ends)));
}

Statements Parser::parse_body(const Ends& ends) {
  const Nesting nesting(*this, 3);
  Statements body;
  while (!current().is(TokenKind::end)) {
    if (current().is(TokenKind::data)) {
      body.push_back(make_statement(StatementKind::data));
      body.back()->text = take().value;
    } else if (current().is(TokenKind::variable_begin)) {
      take();
      body.push_back(make_statement(StatementKind::output));
      body.back()->value = parse_tuple();
      expect(TokenKind::variable_end, "'}}'");
    } else {
      take();
      const bool is_end = std::any_of(ends.begin(), ends.end(), [this](auto end) { return current().is_name(end); });
      if (is_end) return body;
      if (!ends.empty() && current().is(TokenKind::name) && to_utf8(current().value).starts_with("end"))
        fail_here(fmt::format("unexpected tag {}: expected {} for the block '{}' of line {}", describe(current()),
                              listed(ends), open_.back().tag, open_.back().line));
      body.push_back(parse_statement());
      expect(TokenKind::block_end, "'%}'");
    }
  }
  check_end(ends);
  return body;
}

Token Parser::parse_block(Statements& body, const Ends& ends) {
  skip_sign(U":");
  expect(TokenKind::block_end, "'%}'");
  body = parse_body(ends);
  return take();
}

Parser::StatementPtr Parser::parse_statement() {
  const Token tag = current();
  if (!tag.is(TokenKind::name)) fail_here("expected the name of a tag, found " + describe(tag));
  const std::string name = to_utf8(take().value);
  open_.push_back({name, tag.line});
  StatementPtr statement;
  if (name == "if") {
    statement = parse_if();
  } else if (name == "for") {
    statement = parse_for();
  } else if (name == "set") {
    statement = parse_set();
  } else if (name == "with") {
    statement = parse_with();
  } else if (name == "macro") {
    statement = parse_macro();
  } else if (name == "call") {
    statement = parse_call();
  } else if (name == "filter") {
    statement = parse_filter_block();
  } else if (name == "generation") {
    statement = parse_scope(U"endgeneration");
  } else if (name == "break" || name == "continue") {
    statement = make_statement(name == "break" ? StatementKind::break_loop : StatementKind::continue_loop);
  } else if (name == "print") {
    statement = make_statement(StatementKind::output);
    statement->value = parse_tuple();
  } else {
    const bool is_jinja = std::ranges::any_of(std::array{"include", "import", "from", "extends", "block", "autoescape"},
                                              [&](auto t) { return name == t; });
    fail_at(tag.line, is_jinja ? "the tag '" + name + "' is not supported: a chat template stands alone"
                               : "unknown tag " + in_quotes(name));
  }
  open_.pop_back();
  return statement;
}

Parser::StatementPtr Parser::parse_if() {
  StatementPtr statement = make_statement(StatementKind::condition);
  const std::size_t unknown = unknown_.size();
  while (true) {
    auto& [condition, body] = statement->branches.emplace_back();
    condition = parse_tuple(false);
    const Token end = parse_block(body, {U"elif", U"else", U"endif"});
    if (end.is_name(U"elif")) continue;
    if (end.is_name(U"else")) parse_block(statement->otherwise, {U"endif"});
    break;
  }
  forgive_unknown_since(unknown);
  return statement;
}

Parser::StatementPtr Parser::parse_for() {
  StatementPtr statement = make_statement(StatementKind::loop);
  statement->target = parse_target(U"in");
  if (!skip_name(U"in")) fail_here("expected 'in', found " + describe(current()));
  statement->value = parse_tuple(false, U"recursive");
  if (skip_name(U"if")) statement->test = parse_expression();
  statement->recursive = skip_name(U"recursive");
  if (parse_block(statement->body, {U"endfor", U"else"}).is_name(U"else"))
    parse_block(statement->otherwise, {U"endfor"});
  return statement;
}

Parser::StatementPtr Parser::parse_set() {
  StatementPtr statement = make_statement(StatementKind::set);
  statement->target = parse_target({}, true);
  if (skip_sign(U"=")) {
    statement->value = parse_tuple();
    return statement;
  }
  statement->kind = StatementKind::set_block;
  if (!current().is_sign(U"|") && !current().is(TokenKind::block_end))
    fail_here("expected '=' or '%}' after what is set, found " + describe(current()));
  statement->value = parse_filters(nullptr, false);
  parse_block(statement->body, {U"endset"});
  return statement;
}

Parser::StatementPtr Parser::parse_with() {
  StatementPtr statement = make_statement(StatementKind::with);
  while (!current().is(TokenKind::block_end)) {
    if (!statement->assignments.empty()) expect_sign(U",");
    ExpressionPtr target = parse_target(U"=");
    expect_sign(U"=");
    statement->assignments.emplace_back(std::move(target), parse_expression());
  }
  parse_block(statement->body, {U"endwith"});
  return statement;
}

void Parser::parse_parameters(Statement& statement) {
  expect_sign(U"(");
  while (!current().is_sign(U")")) {
    if (!statement.parameters.empty()) expect_sign(U",");
    Parameter& parameter = statement.parameters.emplace_back();
    parameter.name = parse_target_name();
    parameter.symbol = symbol_of(parameter.name);
    if (skip_sign(U"="))
      parameter.otherwise = parse_expression();
    else if (statement.parameters.size() > 1 && statement.parameters[statement.parameters.size() - 2].otherwise)
      fail_here("a parameter without a default after one with a default");
  }
  expect_sign(U")");
}

void Parser::parse_macro_body(Statement& statement, std::u32string_view end) {
  macro_uses_.push_back(0);
  parse_block(statement.body, {end});
  statement.uses = macro_uses_.back();
  macro_uses_.pop_back();
}

Parser::StatementPtr Parser::parse_macro() {
  StatementPtr statement = make_statement(StatementKind::macro);
  statement->name = parse_target_name();
  statement->symbol = symbol_of(statement->name);
  parse_parameters(*statement);
  parse_macro_body(*statement, U"endmacro");
  return statement;
}

Parser::StatementPtr Parser::parse_call() {
  StatementPtr statement = make_statement(StatementKind::call_block);
  statement->name = "caller";
  if (current().is_sign(U"(")) parse_parameters(*statement);
  statement->value = parse_expression();
  if (statement->value->kind != ExpressionKind::call) fail_at(statement->line, "expected a call after 'call'");
  parse_macro_body(*statement, U"endcall");
  return statement;
}

Parser::StatementPtr Parser::parse_filter_block() {
  StatementPtr statement = make_statement(StatementKind::filter_block);
  statement->value = parse_filters(nullptr, true);
  parse_block(statement->body, {U"endfilter"});
  return statement;
}

Parser::StatementPtr Parser::parse_scope(std::u32string_view end) {
  StatementPtr statement = make_statement(StatementKind::scope);
  parse_block(statement->body, {end});
  return statement;
}

}  // namespace

Tree parse(std::string_view source, const std::string& name) {
  return Parser(lex(source, name), name).run();
}

}  // namespace millrace::jinja
