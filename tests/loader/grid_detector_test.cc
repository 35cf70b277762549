#include "loader/grid_detector.h"

#include <gmock/gmock.h>

#include "tests/support/random.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(GridDetector, ReadingsThatFitTheRowsOfScales) {
  EXPECT_THAT(grid_readings(768, 6), ElementsAre(1, 2, 3, 6));   // runs of whole blocks, all the same grid
  EXPECT_THAT(grid_readings(768, 8), ElementsAre(4, 8));         // k_proj of MiMo-V2-Flash: 4 heads of 192
  EXPECT_THAT(grid_readings(13568, 108), ElementsAre(4));        // fused q, k, v of a full layer
  EXPECT_THAT(grid_readings(14848, 116), ElementsAre(1, 2, 4));  // and of a sliding layer
  EXPECT_THAT(grid_readings(704, 6), ElementsAre(1, 2));
  EXPECT_THAT(grid_readings(32, 3), IsEmpty());
  EXPECT_THAT(grid_readings(6 * 200, 6 * 2, 6), ElementsAre(6, 12));  // six matrices of 200 rows
  EXPECT_THAT(grid_readings(0, 0), IsEmpty());
}

// Codes as a quantizer makes them for `runs` grids: the last row of each block has a code of 448 in each block of
// columns.
std::vector<std::uint8_t> quantized(std::int64_t rows, std::int64_t columns, std::int64_t runs) {
  test::Random random(1);
  std::vector<std::uint8_t> codes;
  for (std::int64_t i = 0; i < rows * columns; ++i)
    codes.push_back(static_cast<std::uint8_t>(random.below(0x70) + 128 * random.below(2)));
  const std::int64_t run = rows / runs;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t column = 0; column < columns; column += 128)
      if (row % run % 128 == 127 || row % run == run - 1)
        codes[static_cast<std::size_t>(row * columns + column)] = column == 0 ? 0xfe : 0x7e;
  return codes;
}

TEST(GridDetector, OnlyTheRightReadingReachesThePeakInEveryBlock) {
  const RowPeaks heads(quantized(768, 200, 4), 200);
  EXPECT_TRUE(heads.all_blocks_reach(0x7e, 4));
  EXPECT_FALSE(heads.all_blocks_reach(0x7e, 8));
  const RowPeaks whole(quantized(768, 200, 1), 200);
  EXPECT_TRUE(whole.all_blocks_reach(0x7e, 1));
  EXPECT_FALSE(whole.all_blocks_reach(0x7e, 4));
}

TEST(GridDetector, BlocksOfZerosAreInOrder) {
  std::vector<std::uint8_t> codes = quantized(256, 256, 1);
  for (std::size_t row = 128; row < 256; ++row)
    for (std::size_t column = 0; column < 128; ++column) codes[row * 256 + column] = column % 2 ? 0x80 : 0;
  EXPECT_TRUE(RowPeaks(codes, 256).all_blocks_reach(0x7e, 1));
  codes[200 * 256] = 0x70;
  EXPECT_FALSE(RowPeaks(codes, 256).all_blocks_reach(0x7e, 1));
}

TEST(GridDetector, PowersOfTwoNeedNotReach448) {
  EXPECT_EQ(peak_of_scales(std::vector<float>{0.5f, 4, 0x1p-100f}), 0x77);  // 240, the first code above 224
  EXPECT_EQ(peak_of_scales(std::vector<float>{0.5f, 3}), 0x7e);
  EXPECT_EQ(peak_of_scales(std::vector<float>{0.0f, 1}), 0x7e);
}

}  // namespace
}  // namespace millrace
