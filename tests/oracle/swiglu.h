// SwiGLU in double, from the formula: gate / (1 + e^-gate) * up.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

inline std::vector<test::Measured> swiglu(std::span<const float> gate, std::span<const float> up) {
  std::vector<test::Measured> out(gate.size());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double value = double{gate[i]} / (1 + std::exp(-double{gate[i]})) * double{up[i]};
    out[i] = {value, std::abs(value)};
  }
  return out;
}

}  // namespace millrace::oracle
