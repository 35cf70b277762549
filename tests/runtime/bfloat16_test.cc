#include "runtime/bfloat16.h"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <cmath>

namespace millrace {
namespace {

TEST(Bfloat16, EveryCodeIsTheUpperHalfOfItsValue) {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const float value = bf16_to_f32(static_cast<Bfloat16>(code));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), code << 16);
    if (std::isnan(value))
      ASSERT_EQ(bf16_from_f32(value), code | 0x40u) << code;
    else
      ASSERT_EQ(bf16_from_f32(value), code);
  }
}

// Around every code: exact, just above, just below the tie, the tie, just above it, just below the next code.
TEST(Bfloat16, RoundsToNearestEvenAsEigenDoes) {
  for (std::uint32_t code = 0; code < 65536; ++code)
    for (std::uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const auto value = std::bit_cast<float>(code << 16 | low);
      const Bfloat16 got = bf16_from_f32(value);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(bf16_to_f32(got)));
        ASSERT_EQ(got & 0x8000u, code & 0x8000u);
      } else {
        const auto eigen = Eigen::numext::bit_cast<std::uint16_t>(static_cast<Eigen::bfloat16>(value));
        ASSERT_EQ(got, eigen) << std::hex << (code << 16 | low);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(round_to_bf16(value)), std::uint32_t{eigen} << 16);
      }
    }
}

TEST(Bfloat16, OverflowGoesToInfinity) {
  EXPECT_EQ(round_to_bf16(std::numeric_limits<float>::max()), std::numeric_limits<float>::infinity());
  EXPECT_EQ(round_to_bf16(-std::numeric_limits<float>::max()), -std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace millrace
