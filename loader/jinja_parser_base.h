// What both halves of the parser share: the stream of tokens, messages, and making nodes within limits. Internal to
// jinja_parser.cc and jinja_expression_parser.cc.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "loader/jinja_ast.h"
#include "loader/jinja_error.h"
#include "loader/jinja_lexer.h"

namespace millrace::jinja {

class ParserBase {
 protected:
  ParserBase(std::vector<Token> tokens, const std::string& name);

  [[noreturn]] void fail_at(int line, const std::string& what) const { throw TemplateError(name_, line, what); }
  [[noreturn]] void fail_here(const std::string& what) const { fail_at(current().line, what); }

  const Token& current() const noexcept { return tokens_[at_]; }
  const Token& next() const noexcept { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take();
  bool skip_name(std::u32string_view name);
  bool skip_sign(std::u32string_view sign);
  void expect_sign(std::u32string_view sign);
  void expect(TokenKind kind, const char* what);
  std::string expect_name();

  int symbol_of(const std::string& name);
  ExpressionPtr make(ExpressionKind kind, int line, std::vector<ExpressionPtr> items = {});
  // Sets the depth of a node from those inside it, which must be complete.
  void settle(Expression& expression) const;

  // Counts how deep the parser is while it lives; an expression in parentheses passes three of weight 1.
  class Nesting {
   public:
    explicit Nesting(ParserBase& parser, int weight = 1);
    ~Nesting() { parser_.nesting_ -= weight_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ParserBase& parser_;
    int weight_;
  };

  const std::string& name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t nodes_ = 0;
  int nesting_ = 0;
  std::vector<std::string> symbols_;
  std::unordered_map<std::string, int> symbol_numbers_;
};

// Expressions, and the filters and tests that nobody defines.
class ExpressionParser : protected ParserBase {
 protected:
  using ParserBase::ParserBase;

  ExpressionPtr parse_expression(bool with_conditional = true);
  // A tuple needs no parentheses; what is no tuple is a plain expression.
  ExpressionPtr parse_tuple(bool with_conditional = true, std::u32string_view end_name = {},
                            bool parenthesized = false);
  // What a value can be assigned to: a name, a tuple of names, with `spaces` also namespace.attribute.
  ExpressionPtr parse_target(std::u32string_view end_name = {}, bool spaces = false);
  std::string parse_target_name();
  // Filters after `operand`, null for a block whose first filter has no bar before it.
  ExpressionPtr parse_filters(ExpressionPtr operand, bool at_start);

  // Jinja lets unknown filters and tests pass where a condition may keep them from running.
  struct Unknown {
    int line;
    std::string what;
    bool conditional;
  };
  std::vector<Unknown> unknown_;
  // For each macro around the current place, which of the fixed symbols its body names; a bit for each.
  std::vector<unsigned> macro_uses_;
  void forgive_unknown_since(std::size_t first);

 private:
  ExpressionPtr parse_conditional();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters = true);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_number();
  ExpressionPtr parse_strings();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr operand);
  ExpressionPtr parse_attribute(ExpressionPtr operand);
  ExpressionPtr parse_subscript(ExpressionPtr operand);
  ExpressionPtr parse_subscript_item();
  ExpressionPtr parse_call(ExpressionPtr operand);
  ExpressionPtr parse_test(ExpressionPtr operand);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr operand);
  void parse_arguments(CallArguments& arguments);
  void check_assignable(const Expression& target) const;
  std::string parse_dotted_name();
};

}  // namespace millrace::jinja
