#include "runtime/float4.h"

#include <gtest/gtest.h>

#include <cmath>

namespace millrace {
namespace {

TEST(Float4, EveryCodeUnderEveryExponent) {
  constexpr double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (unsigned exponent = 0; exponent <= mxfp4_largest_exponent; ++exponent)
    for (unsigned code = 0; code < 16; ++code) {
      const float value = bf16_to_f32(mxfp4_to_bf16(code, exponent));
      double want = std::ldexp(magnitudes[code & 7u], static_cast<int>(exponent) - 127);
      if (want < 0x1p-126) want = 0;  // flushed
      EXPECT_EQ(std::abs(value), want) << code << " " << exponent;
      EXPECT_EQ(std::signbit(value), code >= 8) << code << " " << exponent;
    }
}

}  // namespace
}  // namespace millrace
