#include "loader/jinja_lexer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/jinja_error.h"

namespace millrace::jinja {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Data as it is, tokens of a tag one by one.
std::vector<std::string> texts(std::string_view source) {
  std::vector<std::string> result;
  for (const Token& token : lex(source, "t"))
    if (!token.is(TokenKind::end)) result.push_back(to_utf8(token.value));
  return result;
}

std::string refusal(std::string_view source) {
  try {
    lex(source, "t");
  } catch (const TemplateError& error) {
    return error.what();
  }
  return "";
}

TEST(JinjaLexer, TagsEatWhiteSpaceAsJinjaDoes) {
  EXPECT_THAT(texts("a\n  {% x %}\n b"), ElementsAre("a\n", "", "x", "", " b"));
  EXPECT_THAT(texts("a  {% x %}  b"), ElementsAre("a  ", "", "x", "", "  b"));
  EXPECT_THAT(texts("a \n {%- x -%} \n b"), ElementsAre("a", "", "x", "", "b"));
  EXPECT_THAT(texts("a\n {%+ x +%}\nb"), ElementsAre("a\n ", "", "x", "", "\nb"));
  EXPECT_THAT(texts("a {{ x }}\nb"), ElementsAre("a ", "", "x", "", "\nb"));
  EXPECT_THAT(texts("a\n {# c #}\nb"), ElementsAre("a\n", "b"));
  EXPECT_THAT(texts("a {#- c -#} b"), ElementsAre("a", "b"));
}

TEST(JinjaLexer, LineEndsAreOneKindAndTheLastOneGoes) {
  EXPECT_THAT(texts("a\r\nb\rc\n"), ElementsAre("a\nb\nc"));
  EXPECT_THAT(texts("a\n\n"), ElementsAre("a\n"));
}

TEST(JinjaLexer, RawKeepsBraces) {
  EXPECT_THAT(texts("{% raw %}{{ x }}{% y {% endraw %}z"), ElementsAre("{{ x }}{% y ", "z"));
  EXPECT_THAT(texts("{%- raw -%} \n x {%- endraw -%} z"), ElementsAre("x", "z"));
}

TEST(JinjaLexer, NumbersAndNames) {
  EXPECT_THAT(texts("{{ 1_000 1.5e-3 0x1F x.0.5 }}"),
              ElementsAre("", "1000", "1.5e-3", "0x1F", "x", ".", "0", ".", "5", ""));
  EXPECT_THAT(texts("{{ a//b**c != d }}"), ElementsAre("", "a", "//", "b", "**", "c", "!=", "d", ""));
  EXPECT_THAT(texts("{{ {'}}': 1} }}"), ElementsAre("", "{", "}}", ":", "1", "}", ""));
}

TEST(JinjaLexer, EscapesInStringsAreThoseOfPython) {
  EXPECT_THAT(texts(R"({{ 'a\n\x41\u00e9\101\q\'' }})"), ElementsAre("", "a\nA\u00e9A\\q'", ""));
  EXPECT_THAT(texts("{{ 'a\\\nb' }}"), ElementsAre("", "ab", ""));
  EXPECT_THAT(texts("{{ '\\\u00e9' }}"), ElementsAre("", "\\xe9", ""));
}

TEST(JinjaLexer, RefusalsNameTheLine) {
  EXPECT_EQ(refusal("\n{{ 'abc"), "t: line 2: the string is not closed");
  EXPECT_THAT(refusal("a\n\n{# x"), HasSubstr("line 3: the comment"));
  EXPECT_THAT(refusal("{% raw %}"), HasSubstr("endraw"));
  EXPECT_THAT(refusal("{{ (1] }}"), HasSubstr("unexpected ']', expected ')'"));
  EXPECT_THAT(refusal("{{ 1 ? 2 }}"), HasSubstr("\"?\""));
  EXPECT_THAT(refusal(R"({{ '\xZZ' }})"), HasSubstr("hexadecimal"));
  EXPECT_THROW(lex(std::string(std::size_t{2} << 20, 'x'), "t"), Error);
}

}  // namespace
}  // namespace millrace::jinja
