// Rows of a table of doubles.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

inline std::vector<test::Measured> embedding(std::span<const double> table, std::size_t hidden,
                                             std::span<const std::int32_t> tokens) {
  std::vector<test::Measured> y;
  for (std::int32_t token : tokens)
    for (std::size_t e = 0; e < hidden; ++e) {
      const double value = table[static_cast<std::size_t>(token) * hidden + e];
      y.push_back({value, std::abs(value)});
    }
  return y;
}

}  // namespace millrace::oracle
