#include "ops/fp8_marks.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "tests/support/tiers.h"

namespace millrace {
namespace {

constexpr std::uint8_t one = 0x38;

TEST(Fp8Marks, MarksBlocksWithCodesOfExponentZero) {
  const std::int64_t rows = 3, columns = 128 * 9 + 5;  // 10 blocks: two bytes of marks
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * columns), one);
  codes[static_cast<std::size_t>(columns + 128)] = 0x87;           // row 1, first of block 1
  codes[static_cast<std::size_t>(columns + 128 * 8 + 127)] = 0;    // row 1, last of block 8
  codes[static_cast<std::size_t>(2 * columns + columns - 1)] = 3;  // row 2, last column
  codes[static_cast<std::size_t>(2 * columns)] = 0x08;             // the smallest normal number
  using Marks = std::vector<std::uint8_t>;
  for (Isa isa : test::present_tiers()) {
    MarkSmallCodesFn* mark = mark_small_codes_kernel.at(isa);
    Marks marks(6, 0xff);
    EXPECT_TRUE(mark(codes.data(), columns, 0, 2, marks.data()));
    EXPECT_EQ(marks, (Marks{0, 0, 0x02, 0x01, 0xff, 0xff})) << name_of(isa);
    EXPECT_TRUE(mark(codes.data(), columns, 2, 3, marks.data()));
    EXPECT_EQ(marks, (Marks{0, 0, 0x02, 0x01, 0, 0x02})) << name_of(isa);
  }
}

TEST(Fp8Marks, FindsEveryCodeAtEveryPlace) {
  for (std::int64_t columns : {1, 31, 33, 127, 128, 129, 256 + 64})
    for (std::int64_t place = 0; place < columns; ++place)
      for (int code = 0; code < 256; code += place % 7 == 0 ? 1 : 17) {
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns), one);
        codes[static_cast<std::size_t>(place)] = static_cast<std::uint8_t>(code);
        const auto small = static_cast<std::uint8_t>((code & 0x78) == 0 ? 1 << place / 128 : 0);
        for (Isa isa : test::present_tiers()) {
          std::uint8_t marks = 0xff;
          const bool clean = mark_small_codes_kernel.at(isa)(codes.data(), columns, 0, 1, &marks);
          ASSERT_EQ(clean, (code & 0x7f) != 0x7f) << name_of(isa) << " code " << code << " at " << place;
          ASSERT_EQ(marks, small) << name_of(isa) << " code " << code << " at " << place << " of " << columns;
        }
      }
}

}  // namespace
}  // namespace millrace
