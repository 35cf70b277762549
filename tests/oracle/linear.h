// Linear in double, from the formula: y[r][o] = sum over e of x[r][e] * w[o][e] + bias[o].
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

// x: (rows, inputs), weight: (outputs, inputs), bias: (outputs) or empty; the result: (rows, outputs).
inline std::vector<test::Measured> linear(std::span<const float> x, std::span<const float> weight,
                                          std::span<const float> bias, std::int64_t inputs) {
  std::vector<test::Measured> y;
  const auto n = static_cast<std::size_t>(inputs);
  for (std::size_t row = 0; row < x.size(); row += n)
    for (std::size_t o = 0; o < weight.size() / n; ++o) {
      test::Measured sum;
      for (std::size_t e = 0; e < n; ++e) {
        const double term = double{x[row + e]} * double{weight[o * n + e]};
        sum.value += term;
        sum.magnitude += std::abs(term);
      }
      if (!bias.empty()) {
        sum.value += double{bias[o]};
        sum.magnitude += std::abs(double{bias[o]});
      }
      y.push_back(sum);
    }
  return y;
}

}  // namespace millrace::oracle
