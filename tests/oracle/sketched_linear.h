// The estimates of a sketch in double, from the formula, with inputs that are not rounded to integers.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "ops/linear_sketch.h"
#include "tests/support/compare.h"

namespace millrace::oracle {

inline std::vector<test::Measured> sketched_linear(std::span<const float> x, const LinearSketch& sketch) {
  std::vector<test::Measured> y(static_cast<std::size_t>(sketch.outputs));
  for (std::int64_t o = 0; o < sketch.outputs; ++o)
    for (std::int64_t e = 0; e < sketch.inputs; ++e) {
      const bool bit = (sketch.bits[o * sketch.row_words() + e / 64] >> (e % 64) & 1) != 0;
      const double term = double{sketch.scales[o]} * double{sketch.spreads[e]};
      const double value = x[static_cast<std::size_t>(e)];
      y[static_cast<std::size_t>(o)].value += (double{sketch.means[e]} + (bit ? term : -term)) * value;
      y[static_cast<std::size_t>(o)].magnitude +=
          (std::abs(double{sketch.means[e]}) + std::abs(term)) * std::abs(value);
    }
  return y;
}

}  // namespace millrace::oracle
