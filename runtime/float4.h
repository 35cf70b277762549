// MXFP4: E2M1 codes of 4 bits (0, 0.5, 1, 1.5, 2, 3, 4, 6; bit 3 is the sign) with one UE8M0 exponent for 32 of them:
// the value is e2m1(code) * 2^(exponent - 127), exact in bfloat16. This decoder is the definition that every kernel
// matches bit for bit. Source: OCP Microscaling Formats (MX) Specification 1.0.
#pragma once

#include <cstdint>

#include "runtime/bfloat16.h"

namespace millrace {

inline constexpr std::int64_t mxfp4_block = 32;  // codes that share an exponent

// Exponents above this one would let a code of 6 overflow; 0xFF is NaN.
inline constexpr std::uint8_t mxfp4_largest_exponent = 252;

// For code 0 to 15 and an exponent up to the largest. Values below 2^-126 are flushed to zero, as kernels do.
constexpr Bfloat16 mxfp4_to_bf16(unsigned code, unsigned exponent) noexcept {
  const unsigned sign = (code & 8u) << 12, magnitude = code & 7u;
  // From 1 on a value is (1 + m / 2) * 2^(e - 1) with e = magnitude / 2 and m its last bit; the half has e = 0, m = 0.
  const int biased = static_cast<int>(exponent + magnitude / 2) - 1;
  if (magnitude == 0 || biased < 1) return static_cast<Bfloat16>(sign);
  const unsigned mantissa = magnitude > 1 ? (magnitude & 1u) << 6 : 0;
  return static_cast<Bfloat16>(sign | static_cast<unsigned>(biased) << 7 | mantissa);
}

}  // namespace millrace
