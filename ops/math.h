// Scalar mathematics that has to give the same bits on every tier and every machine, so it does not call libm.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace millrace {

// e^x within 1.5 units in the last place for x in [-87.3, 88.3]; saturates outside, NaN stays NaN.
// Reduction by ln 2 split in two (Cody and Waite), then the Taylor polynomial of degree 7 on [-ln2/2, ln2/2].
inline float exp_f32(float x) noexcept {
  float clamped = -87.336f > x ? -87.336f : x;
  clamped = 88.376f < clamped ? 88.376f : clamped;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float n = std::fma(clamped, 1.44269504088896341f, shift) - shift;
  float r = std::fma(n, -0.693145751953125f, clamped);
  r = std::fma(n, -1.42860682030941723e-6f, r);
  float p = 1.98412698e-4f;
  p = std::fma(p, r, 1.38888889e-3f);
  p = std::fma(p, r, 8.33333333e-3f);
  p = std::fma(p, r, 4.16666667e-2f);
  p = std::fma(p, r, 1.66666667e-1f);
  p = std::fma(p, r, 0.5f);
  p = std::fma(p, r, 1.0f);
  p = std::fma(p, r, 1.0f);
  if (n != n) return n;
  return std::bit_cast<float>(std::bit_cast<std::int32_t>(p) + (static_cast<std::int32_t>(n) << 23));
}

// 1 / (1 + e^-x)
inline float sigmoid_f32(float x) noexcept {
  return 1.0f / (1.0f + exp_f32(-x));
}

}  // namespace millrace
