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

// Every value keeps itself, every middle goes to the even code, every neighbour of a middle to the nearer one.
TEST(Float8, RoundsToTheNearestE4m3) {
  for (int code = 0; code < 0x7e; ++code)
    for (float sign : {1.0f, -1.0f}) {
      const float below = e4m3_to_f32(static_cast<std::uint8_t>(code));
      const float above = e4m3_to_f32(static_cast<std::uint8_t>(code + 1));
      const float middle = (below + above) / 2;
      EXPECT_EQ(round_to_e4m3(sign * below), sign * below);
      EXPECT_EQ(std::signbit(round_to_e4m3(sign * below)), sign < 0);
      EXPECT_EQ(round_to_e4m3(sign * middle), sign * (code % 2 == 0 ? below : above)) << code;
      EXPECT_EQ(round_to_e4m3(sign * std::nextafter(middle, 0.0f)), sign * below) << code;
      EXPECT_EQ(round_to_e4m3(sign * std::nextafter(middle, 449.0f)), sign * above) << code;
    }
  const float infinity = std::numeric_limits<float>::infinity();
  for (float large : {448.0f, 460.0f, 470.0f, 1e30f, infinity}) EXPECT_EQ(round_to_e4m3(-large), -448.0f);
  EXPECT_TRUE(std::isnan(round_to_e4m3(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Float8, EveryE8m0CodeIsItsPowerOfTwo) {
  for (int code = 0; code < 255; ++code)
    EXPECT_EQ(double{e8m0_to_f32(static_cast<std::uint8_t>(code))}, std::ldexp(1.0, code - 127)) << code;
  EXPECT_TRUE(std::isnan(e8m0_to_f32(0xff)));
}

}  // namespace
}  // namespace millrace
