#include "loader/regex_dialect.h"

#include <gtest/gtest.h>

#include "runtime/error.h"

namespace millrace {
namespace {

TEST(RegexDialect, RewritesWhatDiffers) {
  EXPECT_EQ(pcre2_pattern(R"(\s+(?!\S)|[^\s\p{L}])", "f"),
            R"(\p{White_Space}+(?!\P{White_Space})|[^\p{White_Space}\p{L}])");
  EXPECT_EQ(pcre2_pattern(R"(\h[\h]\H)", "f"), "[0-9A-Fa-f][0-9A-Fa-f][^0-9A-Fa-f]");
  EXPECT_EQ(pcre2_pattern(R"([\w-])", "f"), R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}-])");
  EXPECT_EQ(pcre2_pattern(R"(\u4e00)", "f"), R"(\x{4e00})");
  EXPECT_EQ(pcre2_pattern("[]a]", "f"), R"([\]a])");
}

TEST(RegexDialect, KeepsTheRest) {
  for (const char* same :
       {R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})", R"(a{2}b{3,}c{x}\{,\})", R"([\]\[[:alpha:]])",
        R"((?<n>a)(?=b)(?<!c)(?:d)++)", R"(\x{10FFFF}[\b]\\s)", "[\u4e00-\u9fa5]+", ""})
    EXPECT_EQ(pcre2_pattern(same, "f"), same);
}

TEST(RegexDialect, RefusesWhatWouldMeanSomethingElse) {
  for (const char* pattern :
       {R"([a[b]])", R"([a&&b])", R"([\W])", R"(\p{N}{1,3}+)", R"(a{,3})", R"((?m:.))", R"(\u12)"})
    EXPECT_THROW(pcre2_pattern(pattern, "f"), Error) << pattern;
}

}  // namespace
}  // namespace millrace
