// The sum of two arrays in double.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

inline std::vector<test::Measured> add(std::span<const float> a, std::span<const float> b) {
  std::vector<test::Measured> y(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double value = double{a[i]} + double{b[i]};
    y[i] = {value, std::abs(value)};
  }
  return y;
}

}  // namespace millrace::oracle
