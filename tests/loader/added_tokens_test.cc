#include "loader/added_tokens.h"

#include <gmock/gmock.h>

#include <string>

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Tokens as id:text, text between them as it is.
std::vector<std::string> split(const AddedTokenMatcher& matcher, std::string_view text) {
  std::vector<std::string> spans;
  for (const TextSpan& span : matcher.split(text)) {
    std::string shown = span.id < 0 ? "" : std::to_string(span.id) + ":";
    shown += span.text;
    spans.push_back(shown);
  }
  return spans;
}

TEST(AddedTokens, LeftmostThenLongest) {
  AddedTokenMatcher matcher;
  EXPECT_TRUE(matcher.add("<a>", {.id = 1}));
  EXPECT_TRUE(matcher.add("<a>bc", {.id = 2}));
  EXPECT_TRUE(matcher.add("b<", {.id = 3}));
  EXPECT_FALSE(matcher.add("b<", {.id = 4}));
  EXPECT_THAT(split(matcher, "x<a>b<a>bcy"), ElementsAre("x", "1:<a>", "3:b<", "a>bcy"));
  EXPECT_THAT(split(matcher, "<a>bc<a>b"), ElementsAre("2:<a>bc", "1:<a>", "b"));
  EXPECT_THAT(split(matcher, "<a"), ElementsAre("<a"));
  EXPECT_THAT(split(matcher, ""), IsEmpty());
}

TEST(AddedTokens, WhiteSpaceGoesAlong) {
  AddedTokenMatcher matcher;
  matcher.add("L", {.id = 1, .lstrip = true});
  matcher.add("R", {.id = 2, .rstrip = true});
  matcher.add("\t ", {.id = 3});
  EXPECT_THAT(split(matcher, "a \u3000L b"), ElementsAre("a", "1: \u3000L", " b"));
  EXPECT_THAT(split(matcher, "a R\u0085 b"), ElementsAre("a ", "2:R\u0085 ", "b"));
  EXPECT_THAT(split(matcher, "R  L"), ElementsAre("2:R  ", "1:L"));
  EXPECT_THAT(split(matcher, "R\u200BL"), ElementsAre("2:R", "\u200B", "1:L"));
  EXPECT_THAT(split(matcher, "R\t  x"), ElementsAre("2:R\t  ", "3:\t ", " x"));  // as the reference does
}

TEST(AddedTokens, SingleWords) {
  AddedTokenMatcher matcher;
  matcher.add("solo", {.id = 1, .single_word = true});
  matcher.add("lo", {.id = 2});
  EXPECT_THAT(split(matcher, "solo, solo"), ElementsAre("1:solo", ", ", "1:solo"));
  EXPECT_THAT(split(matcher, "solos _solo \u00E9solo"), ElementsAre("solos _solo \u00E9solo"));
  EXPECT_THAT(split(matcher, "solo\u200D-solo\u00BD"), ElementsAre("solo\u200D-", "1:solo", "\u00BD"));
}

}  // namespace
}  // namespace millrace
