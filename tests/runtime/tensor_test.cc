#include "runtime/tensor.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/error.h"

namespace millrace {
namespace {

TEST(Tensor, DescribesItsMemory) {
  const std::vector<float> data(24);
  const std::int64_t shape[] = {2, 3, 4};
  const Tensor tensor(Dtype::f32, shape, data.data());
  EXPECT_EQ(tensor.rank(), 3);
  EXPECT_EQ(tensor.dim(1), 3);
  EXPECT_EQ(tensor.elements(), 24);
  EXPECT_EQ(tensor.bytes(), 96);
  EXPECT_EQ(tensor.as<float>(), data.data());
  EXPECT_FALSE(tensor.empty());
  EXPECT_FALSE(tensor.scales());
  EXPECT_TRUE(Tensor().empty());
}

TEST(Tensor, RankZeroIsOneElementAndZeroRowsAreNone) {
  const float value = 1;
  EXPECT_EQ(Tensor(Dtype::f32, {}, &value).elements(), 1);
  const std::int64_t shape[] = {0, 5};
  EXPECT_EQ(Tensor(Dtype::f32, shape, &value).elements(), 0);
  EXPECT_EQ(Tensor(Dtype::f32, shape, &value).rows(0, 0).elements(), 0);
}

TEST(Tensor, RefusesRankFive) {
  const std::int64_t shape[] = {1, 1, 1, 1, 1};
  EXPECT_THROW(Tensor(Dtype::f32, shape, nullptr), Error);
}

TEST(Tensor, RowsAreAViewOfTheSameRank) {
  std::vector<std::uint16_t> data(5 * 6);
  const std::int64_t shape[] = {5, 2, 3};
  const Tensor part = Tensor(Dtype::bf16, shape, data.data()).rows(2, 4);
  EXPECT_EQ(part.rank(), 3);
  EXPECT_EQ(part.dim(0), 2);
  EXPECT_EQ(part.as<std::uint16_t>(), data.data() + 12);
  EXPECT_EQ(part.bytes(), 24);
}

// 300 rows in two segments of 150: each has a block grid of two rows, the second block being of 22 weight rows.
TEST(BlockScales, SegmentsHaveGridsOfTheirOwn) {
  const std::vector<float> scales(4 * 3);
  const BlockScales grid{.data = scales.data(), .columns = 3, .segment_rows = 150};
  const std::pair<std::int64_t, std::int64_t> grid_row_of[] = {{0, 0},   {127, 0}, {128, 1}, {149, 1},
                                                               {150, 2}, {277, 2}, {278, 3}, {299, 3}};
  for (const auto& [weight_row, grid_row] : grid_row_of)
    EXPECT_EQ(grid.row(weight_row), scales.data() + grid_row * 3) << weight_row;
}

// Two segments of 200 rows, each cut out of a run of blocks 100 rows after the start of one.
TEST(BlockScales, SegmentsMayBeginInsideABlock) {
  const std::vector<float> scales(6 * 2);
  const BlockScales grid{.data = scales.data(), .columns = 2, .segment_rows = 200, .skipped_rows = 100};
  const std::pair<std::int64_t, std::int64_t> grid_row_of[] = {{0, 0},   {27, 0},  {28, 1},  {155, 1}, {156, 2},
                                                               {199, 2}, {200, 3}, {228, 4}, {356, 5}, {399, 5}};
  for (const auto& [weight_row, grid_row] : grid_row_of)
    EXPECT_EQ(grid.row(weight_row), scales.data() + grid_row * 2) << weight_row;
}

TEST(ShapeText, ListsTheSizes) {
  const std::int64_t shape[] = {2, 30, 4};
  EXPECT_EQ(shape_text(shape), "[2, 30, 4]");
  EXPECT_EQ(shape_text({}), "[]");
}

}  // namespace
}  // namespace millrace
