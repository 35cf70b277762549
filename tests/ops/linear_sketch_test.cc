#include "ops/linear_sketch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/support/sketched_weight.h"

namespace millrace {
namespace {

struct Columns {
  std::vector<double> means, spreads;
};

// Means and mean distances, over all rows.
Columns columns_of(const test::SketchedWeight& weight) {
  const std::int64_t rows = weight.tensor.dim(0), inputs = weight.tensor.dim(1);
  const auto at = [&](std::int64_t row, std::int64_t e) {
    return double{bf16_to_f32(weight.values[static_cast<std::size_t>(row * inputs + e)])};
  };
  Columns columns;
  for (std::int64_t e = 0; e < inputs; ++e) {
    double mean = 0, spread = 0;
    for (std::int64_t row = 0; row < rows; ++row) mean += at(row, e) / static_cast<double>(rows);
    for (std::int64_t row = 0; row < rows; ++row) spread += std::abs(at(row, e) - mean) / static_cast<double>(rows);
    columns.means.push_back(mean);
    columns.spreads.push_back(spread);
  }
  return columns;
}

TEST(LinearSketch, SaysWhichSideOfTheMeanAndHowFar) {
  test::Random random(1);
  for (std::int64_t inputs : {1, 63, 64, 65, 200}) {
    const test::SketchedWeight weight(random, 37, inputs);
    const LinearSketch& sketch = weight.sketch;
    ASSERT_EQ(sketch.row_words(), (inputs + 63) / 64);
    const Columns want = columns_of(weight);
    double squares = 0;
    for (double spread : want.spreads) squares += spread * spread;
    for (std::int64_t e = 0; e < inputs; ++e) {
      EXPECT_NEAR(sketch.means[e], want.means[static_cast<std::size_t>(e)], 1e-6);
      EXPECT_NEAR(sketch.spreads[e], want.spreads[static_cast<std::size_t>(e)], 1e-5);
    }
    for (std::int64_t row = 0; row < 37; ++row) {
      double product = 0;
      for (std::int64_t e = 0; e < sketch.row_words() * 64; ++e) {
        const bool bit = (sketch.bits[row * sketch.row_words() + e / 64] >> (e % 64) & 1) != 0;
        const auto column = static_cast<std::size_t>(e);
        const double distance =
            e < inputs ? bf16_to_f32(weight.values[static_cast<std::size_t>(row * inputs + e)]) - want.means[column]
                       : 0;
        if (std::abs(distance) > 1e-5 || e >= inputs) {
          EXPECT_EQ(bit, distance > 0) << row << " " << e;
        }
        if (e < inputs) product += std::abs(distance) * want.spreads[column];
      }
      EXPECT_NEAR(sketch.scales[row], product / squares, 1e-4 * product / squares);
    }
  }
}

TEST(LinearSketch, TheSameOnAnyNumberOfThreads) {
  test::Random random(2);
  test::SketchedWeight weight(random, 3000, 130);  // more rows than are asked about columns
  const Buffer alone = std::move(weight.memory);
  for (int threads : {2, 3, 5}) {
    weight.make(threads);
    ASSERT_EQ(weight.memory.bytes(), alone.bytes());
    EXPECT_EQ(std::memcmp(weight.memory.data(), alone.data(), alone.bytes()), 0) << threads;
  }
}

TEST(LinearSketch, OfRowsThatAreAllAlike) {
  test::Random random(3);
  test::SketchedWeight weight(random, 8, 70);
  std::fill(weight.values.begin(), weight.values.end(), bf16_from_f32(0.25f));
  weight.make();
  for (int row = 0; row < 8; ++row) EXPECT_EQ(weight.sketch.scales[row], 0);
}

TEST(LinearSketch, OfMatricesInBf16AndF32) {
  const float data[16] = {};
  const std::int64_t flat[] = {16}, matrix[] = {4, 4};
  EXPECT_TRUE(can_sketch(Tensor(Dtype::f32, matrix, data)));
  EXPECT_TRUE(can_sketch(Tensor(Dtype::bf16, matrix, data)));
  EXPECT_FALSE(can_sketch(Tensor(Dtype::bf16, flat, data)));
  EXPECT_FALSE(can_sketch(Tensor(Dtype::f8_e4m3, matrix, data)));
}

}  // namespace
}  // namespace millrace
