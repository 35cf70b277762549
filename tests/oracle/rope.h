// Rotary embedding in double, from the formula: pairs (i, i + half) turn by angle_i, the other dimensions pass.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

// x: one row, (heads, dim); angles: (half).
inline std::vector<test::Measured> rope(std::span<const float> x, std::size_t dim, std::span<const double> angles,
                                        double attention_factor) {
  std::vector<test::Measured> y;
  for (float value : x) y.push_back({double{value}, std::abs(double{value})});
  const std::size_t half = angles.size();
  for (std::size_t head = 0; head < x.size(); head += dim)
    for (std::size_t i = 0; i < half; ++i) {
      const double c = attention_factor * std::cos(angles[i]), s = attention_factor * std::sin(angles[i]);
      const double a = double{x[head + i]}, b = double{x[head + half + i]};
      y[head + i] = {a * c - b * s, std::abs(a * c) + std::abs(b * s)};
      y[head + half + i] = {b * c + a * s, std::abs(b * c) + std::abs(a * s)};
    }
  return y;
}

}  // namespace millrace::oracle
