#include "runtime/float8.h"

#include <gtest/gtest.h>

#include <cmath>

namespace millrace {
namespace {

// The definition: (-1)^sign * 2^(exponent - 7) * (1 + mantissa / 8), below exponent 1: 2^-6 * mantissa / 8.
TEST(Float8, EveryE4m3CodeIsTheValueOfItsFields) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_f32(static_cast<std::uint8_t>(code));
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(value)) << code;
      EXPECT_TRUE(e4m3_is_nan(static_cast<std::uint8_t>(code)));
      continue;
    }
    EXPECT_FALSE(e4m3_is_nan(static_cast<std::uint8_t>(code)));
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
    EXPECT_EQ(double{value}, code & 0x80 ? -magnitude : magnitude) << code;
    EXPECT_EQ(std::signbit(value), code >= 128) << code;
  }
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0f);
  EXPECT_EQ(e4m3_to_f32(0x01), 0x1p-9f);
}

TEST(Float8, EveryE8m0CodeIsItsPowerOfTwo) {
  for (int code = 0; code < 255; ++code)
    EXPECT_EQ(double{e8m0_to_f32(static_cast<std::uint8_t>(code))}, std::ldexp(1.0, code - 127)) << code;
  EXPECT_TRUE(std::isnan(e8m0_to_f32(0xff)));
}

}  // namespace
}  // namespace millrace
