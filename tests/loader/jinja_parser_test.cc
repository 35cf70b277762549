#include "loader/jinja_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/jinja_error.h"

namespace millrace::jinja {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& source) {
  try {
    parse(source, "t");
  } catch (const TemplateError& error) {
    return error.what();
  }
  return "";
}

std::string times(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

TEST(JinjaParser, OperatorsBindAsInJinja) {
  const Tree tree = parse("{{ 1 ~ 2 + 3 * -4 ** 2 }}", "t");
  const Expression& sum = *tree.body.at(0)->value;
  ASSERT_EQ(sum.kind, ExpressionKind::add);
  EXPECT_EQ(sum.items[0]->kind, ExpressionKind::concatenate);
  const Expression& product = *sum.items[1];
  ASSERT_EQ(product.kind, ExpressionKind::multiply);
  ASSERT_EQ(product.items[1]->kind, ExpressionKind::power);
  EXPECT_EQ(product.items[1]->items[0]->kind, ExpressionKind::negative);
}

TEST(JinjaParser, ANameAfterATestIsItsArgument) {
  EXPECT_NE(refusal("{{ x is defined if y else z }}"), "");
  EXPECT_EQ(refusal("{{ x.a if x.a is defined else z }}"), "");
  EXPECT_EQ(refusal("{{ x is divisibleby 3 and y is not none }}"), "");
}

TEST(JinjaParser, UnknownFiltersMayStandBehindACondition) {
  EXPECT_THAT(refusal("\n{{ x | nofilter }}"), HasSubstr("t: line 2: there is no filter named 'nofilter'"));
  EXPECT_THAT(refusal("{{ x is notest }}"), HasSubstr("no test named 'notest'"));
  EXPECT_EQ(refusal("{% if 'nofilter' is filter %}{{ x | nofilter }}{% endif %}"), "");
  EXPECT_EQ(refusal("{{ x | nofilter if y else x }}"), "");
}

TEST(JinjaParser, RefusalsSayWhatWasExpected) {
  EXPECT_THAT(refusal("{% if x %}\n{% endfor %}"), HasSubstr("line 2: unexpected tag \"endfor\": expected 'elif'"));
  EXPECT_THAT(refusal("\n{% for x in y %}"), HasSubstr("block 'for' of line 2 is not closed"));
  EXPECT_THAT(refusal("{% set 1 = 2 %}"), HasSubstr("cannot set"));
  EXPECT_THAT(refusal("{% set none = 2 %}"), HasSubstr("cannot set"));
  EXPECT_THAT(refusal("{% macro m(a=1, b) %}{% endmacro %}"), HasSubstr("default"));
  EXPECT_THAT(refusal("{{ f(a=1, 2) }}"), HasSubstr("positional argument"));
  EXPECT_THAT(refusal("{{ }}"), HasSubstr("expected an expression"));
  EXPECT_THAT(refusal("{% import 'x' as y %}"), HasSubstr("stands alone"));
  EXPECT_THAT(refusal("{{ 999999999999999999999999999999999999999999 }}"), HasSubstr("limit"));
}

TEST(JinjaParser, NestingIsLimitedWhateverNests) {
  const std::pair<const char*, const char*> around[] = {{"(", ")"}, {"[", "]"},  {"{1: ", "}"},        {"not ", ""},
                                                        {"-", ""},  {"f(", ")"}, {"1 if 0 else ", ""}, {"x[", "]"}};
  for (const auto& [open, close] : around)
    EXPECT_THAT(refusal("{{ " + times(open, 3000) + "1" + times(close, 3000) + " }}"), HasSubstr("nesting")) << open;
  for (const char* unit : {".a", "|string", "[0]", "()", " + 1", " ** 2"})
    EXPECT_THAT(refusal("{{ x" + times(unit, 3000) + " }}"), HasSubstr("nesting")) << unit;
  EXPECT_THAT(refusal(times("{% if x %}", 3000)), HasSubstr("nesting"));
  EXPECT_EQ(refusal("{{ " + times("(", 100) + "1" + times(")", 100) + " }}"), "");
  EXPECT_EQ(refusal("{{ '' " + times("~ x ", 3000) + " }}"), "");
}

}  // namespace
}  // namespace millrace::jinja
