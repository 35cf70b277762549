#include "loader/mxfp4_blocks.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/weights.h"

namespace millrace {
namespace {

TEST(Mxfp4Blocks, DequantizesByTheDefinition) {
  test::Random random(1);
  const test::Mxfp4Weight weight(random, 5, 96, 3, 252);
  std::vector<Bfloat16> out(5 * 96);
  dequantize_mxfp4(weight.codes().data(), weight.tensor().exponents(), 5, 96, out.data());
  EXPECT_EQ(out, test::to_bf16(weight.values()));
}

TEST(Mxfp4Blocks, FindsTheFirstBadExponent) {
  EXPECT_EQ(find_bad_exponent(std::vector<std::uint8_t>{0, 252, 127}), -1);
  EXPECT_EQ(find_bad_exponent(std::vector<std::uint8_t>{0, 253, 255}), 1);
  EXPECT_EQ(find_bad_exponent({}), -1);
}

}  // namespace
}  // namespace millrace
