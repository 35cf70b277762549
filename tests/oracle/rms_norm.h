// RMSNorm in double, from the formula: w * x / sqrt(mean(x^2) + epsilon).
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

inline std::vector<test::Measured> rms_norm(std::span<const float> x, std::span<const float> weight, double epsilon) {
  std::vector<test::Measured> y(x.size());
  const std::size_t hidden = weight.size();
  for (std::size_t first = 0; first < x.size(); first += hidden) {
    double squares = 0;
    for (std::size_t e = 0; e < hidden; ++e) squares += double{x[first + e]} * double{x[first + e]};
    const double norm = std::sqrt(squares / static_cast<double>(hidden) + epsilon);
    for (std::size_t e = 0; e < hidden; ++e) {
      const double value = double{weight[e]} * double{x[first + e]} / norm;
      y[first + e] = {value, std::abs(value)};
    }
  }
  return y;
}

}  // namespace millrace::oracle
