// The quantized product in double, from the formula of ops/linear_w8a8.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

// The value of a positive E4M3 code.
inline double e4m3_value(int code) {
  const int exponent = code >> 3, mantissa = code & 7;
  return exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
}

// The code nearest to |value|, an even one where two are equally near.
inline int nearest_e4m3(double value) {
  int best = 0;
  for (int code = 0; code <= 0x7e; ++code) {
    const double distance = std::abs(e4m3_value(code) - std::abs(value));
    const double least = std::abs(e4m3_value(best) - std::abs(value));
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return best;
}

struct QuantizedGroup {
  float scale = 0;
  std::vector<double> values;
};

// Scale and quotients are numbers in fp32 by definition, so these are exact.
inline QuantizedGroup quantize_group(std::span<const float> x, bool power_of_two) {
  float largest = 0;
  for (float value : x) largest = std::max(largest, std::abs(value));
  QuantizedGroup group{.scale = std::max(largest, 1e-10f) / 448.0f, .values = {}};
  if (power_of_two) group.scale = static_cast<float>(std::exp2(std::ceil(std::log2(double{group.scale}))));
  for (float value : x)
    group.values.push_back(std::copysign(e4m3_value(nearest_e4m3(double{value / group.scale})), value));
  return group;
}

// x: (rows, inputs); codes: (outputs, inputs) values of the weight's codes; scale(output, group) of the weight.
template <class Scale>
std::vector<test::Measured> linear_w8a8(std::span<const float> x, std::span<const float> codes, std::int64_t inputs,
                                        bool power_of_two, Scale&& scale) {
  std::vector<test::Measured> y;
  const auto n = static_cast<std::size_t>(inputs);
  for (std::size_t row = 0; row < x.size(); row += n) {
    std::vector<test::Measured> sums(codes.size() / n);
    for (std::size_t begin = 0; begin < n; begin += 128) {
      const auto group = quantize_group(x.subspan(row + begin, std::min<std::size_t>(128, n - begin)), power_of_two);
      for (std::size_t o = 0; o < sums.size(); ++o) {
        const double factor = double{group.scale} * double{scale(static_cast<std::int64_t>(o), begin / 128)};
        for (std::size_t e = 0; e < group.values.size(); ++e) {
          const double term = group.values[e] * double{codes[o * n + begin + e]} * factor;
          sums[o].value += term;
          sums[o].magnitude += std::abs(term);
        }
      }
    }
    y.insert(y.end(), sums.begin(), sums.end());
  }
  return y;
}

}  // namespace millrace::oracle
