#include "apps/common/memory_size.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"

namespace millrace {
namespace {

TEST(MemorySize, UnitsCountBy1024) {
  constexpr std::uint64_t gibi = std::uint64_t{1} << 30;
  EXPECT_EQ(parse_memory_size("16G"), 16 * gibi);
  EXPECT_EQ(parse_memory_size("16gb"), 16 * gibi);
  EXPECT_EQ(parse_memory_size("1.5GiB"), gibi + gibi / 2);
  EXPECT_EQ(parse_memory_size("800m"), 800u << 20);
  EXPECT_EQ(parse_memory_size("2T"), 2048 * gibi);
  EXPECT_EQ(parse_memory_size("64K"), 65536u);
  EXPECT_EQ(parse_memory_size("12345"), 12345u);
  EXPECT_EQ(parse_memory_size("12345B"), 12345u);
}

TEST(MemorySize, AnythingElseIsRefused) {
  for (const char* text : {"", "G", "-1G", "0", "0G", "16X", "16GG", "16 G", "1e9", "nan", "inf", "99999999999T"}) {
    EXPECT_THAT(check_memory_size(text), testing::HasSubstr("such as 16G")) << text;
    test::error_of(Errc::bad_argument, [&] { parse_memory_size(text); });
  }
}

}  // namespace
}  // namespace millrace
