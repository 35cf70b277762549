// ExpertMlp in double, from the formula and without intermediate roundings:
// out = sum over the chosen experts of weight * down (silu(gate x) * (up x)).
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

struct ExpertValues {
  std::vector<float> gate, up, down;  // (width, hidden), (width, hidden), (hidden, width)
};

// One row. The magnitude bounds the error of each factor by that of a sum of its terms.
inline std::vector<test::Measured> expert_mlp(std::span<const float> x, std::span<const ExpertValues> experts,
                                              std::span<const std::int32_t> ids, std::span<const float> weights) {
  const std::size_t hidden = x.size();
  std::vector<test::Measured> out(hidden);
  for (std::size_t k = 0; k < ids.size(); ++k) {
    const ExpertValues& expert = experts[static_cast<std::size_t>(ids[k])];
    const std::size_t width = expert.gate.size() / hidden;
    for (std::size_t i = 0; i < width; ++i) {
      double a = 0, b = 0, a_terms = 0, b_terms = 0;
      for (std::size_t e = 0; e < hidden; ++e) {
        const double at = double{x[e]} * double{expert.gate[i * hidden + e]};
        const double bt = double{x[e]} * double{expert.up[i * hidden + e]};
        a += at, b += bt, a_terms += std::abs(at), b_terms += std::abs(bt);
      }
      const double t = a / (1 + std::exp(-a)) * b;
      for (std::size_t e = 0; e < hidden; ++e) {
        const double factor = double{weights[k]} * double{expert.down[e * width + i]};
        out[e].value += factor * t;
        out[e].magnitude += std::abs(factor) * a_terms * b_terms;
      }
    }
  }
  return out;
}

}  // namespace millrace::oracle
