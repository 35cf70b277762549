// Grouped-query attention of one sequence in double, from the formula: softmax over the visible keys and the sink.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "tests/support/compare.h"

namespace millrace::oracle {

struct GqaShape {
  std::int64_t heads, kv_heads, qk_dim, v_dim, window;
};

// The magnitude is what errors of the weights and of the sum are relative to: sum of p_j |v_j|. `score_magnitude` grows
// to the largest sum over e of |q_e k_e| * scale of any visible pair, to which errors of the scores are relative.
// `mask` (rows, rows), where given, replaces the causal rule and the window: it is added to the scaled scores. A row of
// it that is all -infinity gives zeros.
inline std::vector<test::Measured> gqa_attention(const GqaShape& shape, std::span<const float> q,
                                                 std::span<const float> k, std::span<const float> v,
                                                 std::span<const float> sinks, double* score_magnitude,
                                                 std::span<const double> mask = {}) {
  const auto [heads, kv_heads, qk_dim, v_dim, window] = shape;
  const auto rows = std::ssize(q) / (heads * qk_dim);
  const auto at = [](std::span<const float> x, std::int64_t i) { return double{x[static_cast<std::size_t>(i)]}; };
  std::vector<test::Measured> out;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t g = h / (heads / kv_heads);
      const auto added = [&](std::int64_t j) {
        if (!mask.empty()) return mask[static_cast<std::size_t>(i * rows + j)];
        const bool sees = j <= i && (window == 0 || j > i - window);
        return sees ? 0.0 : -std::numeric_limits<double>::infinity();
      };
      std::vector<double> p;
      std::vector<std::int64_t> keys;
      for (std::int64_t j = 0; j < rows; ++j) {
        if (std::isinf(added(j))) continue;
        keys.push_back(j);
        double dot = 0, magnitude = 0;
        for (std::int64_t e = 0; e < qk_dim; ++e) {
          const double term = at(q, (i * heads + h) * qk_dim + e) * at(k, (j * kv_heads + g) * qk_dim + e);
          dot += term;
          magnitude += std::abs(term);
        }
        p.push_back(dot / std::sqrt(static_cast<double>(qk_dim)) + added(j));
        *score_magnitude =
            std::max(*score_magnitude, magnitude / std::sqrt(static_cast<double>(qk_dim)) + std::abs(added(j)));
      }
      const double sink = sinks.empty() ? -std::numeric_limits<double>::infinity() : at(sinks, h);
      if (keys.empty()) {
        out.resize(out.size() + static_cast<std::size_t>(v_dim));
        continue;
      }
      const double most = std::max(sink, *std::max_element(p.begin(), p.end()));
      double sum = std::exp(sink - most);
      for (double& value : p) sum += value = std::exp(value - most);
      for (std::int64_t e = 0; e < v_dim; ++e) {
        test::Measured result;
        for (std::size_t n = 0; n < keys.size(); ++n) {
          const double term = p[n] / sum * at(v, (keys[n] * kv_heads + g) * v_dim + e);
          result.value += term;
          result.magnitude += std::abs(term);
        }
        out.push_back(result);
      }
    }
  return out;
}

}  // namespace millrace::oracle
