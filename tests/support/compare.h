// Comparison against an oracle in double. The tolerance follows from the number format and the magnitude of what was
// summed: |got - want| <= factor * 2^-bits * magnitude, where the oracle returns want and magnitude.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

namespace millrace::test {

inline constexpr double f32_unit = 0x1p-24;  // largest relative error of one rounding to fp32
inline constexpr double bf16_unit = 0x1p-8;  // of one rounding to bf16

// A value and the sum of the magnitudes of the terms it was made from.
struct Measured {
  double value = 0;
  double magnitude = 0;
};

inline void expect_close(std::span<const float> got, std::span<const Measured> want, double relative,
                         const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i].value) ? std::isnan(got[i]) : static_cast<double>(got[i]) == want[i].value) continue;
    ASSERT_LE(std::abs(static_cast<double>(got[i]) - want[i].value), relative * want[i].magnitude + 0x1p-126)
        << what << " at " << i << ": got " << got[i] << ", expected " << want[i].value;
  }
}

inline void expect_same_bits(std::span<const float> got, std::span<const float> want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(want[i])) continue;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want[i]))
        << what << " at " << i << ": " << got[i] << " and " << want[i];
  }
}

}  // namespace millrace::test
