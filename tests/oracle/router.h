// The router of one row in double, by sorting everything.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "ops/router.h"
#include "tests/support/compare.h"

namespace millrace::oracle {

struct Routed {
  std::vector<std::int32_t> ids;
  std::vector<test::Measured> weights;
  double margin = 1e9;  // distance between the last chosen and the first refused, of groups or experts
};

// The indices of the `top` largest values, and in `margin` how clearly they win.
inline std::vector<std::int32_t> winners(const std::vector<double>& values, std::int64_t top, double& margin) {
  std::vector<std::int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](std::int32_t i) { return values[static_cast<std::size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return value(a) > value(b); });
  const auto count = static_cast<std::size_t>(top);
  if (count < order.size()) margin = std::min(margin, value(order[count - 1]) - value(order[count]));
  order.resize(count);
  return order;
}

inline Routed router(const RouterOptions& options, std::span<const float> bias, std::span<const float> logits) {
  Routed routed;
  std::vector<double> scores, choice, group_scores;
  for (std::size_t e = 0; e < logits.size(); ++e) {
    scores.push_back(1 / (1 + std::exp(-double{logits[e]})));
    choice.push_back(scores[e] + (bias.empty() ? 0.0 : double{bias[e]}));
  }
  if (options.groups > 1) {
    const auto size = options.experts / options.groups;
    for (std::int64_t group = 0; group < options.groups; ++group) {
      std::vector<double> members(choice.begin() + group * size, choice.begin() + (group + 1) * size);
      std::sort(members.rbegin(), members.rend());
      group_scores.push_back(members[0] + members[1]);
    }
    const auto kept = winners(group_scores, options.top_groups, routed.margin);
    for (std::int64_t e = 0; e < options.experts; ++e)
      if (std::count(kept.begin(), kept.end(), static_cast<std::int32_t>(e / size)) == 0)
        choice[static_cast<std::size_t>(e)] = -INFINITY;
  }
  routed.ids = winners(choice, options.top_k, routed.margin);
  std::sort(routed.ids.begin(), routed.ids.end());
  double sum = 0;
  for (std::int32_t id : routed.ids) sum += scores[static_cast<std::size_t>(id)];
  for (std::int32_t id : routed.ids) {
    const double share = options.normalize ? 1 / (sum + double{options.norm_floor}) : 1;
    const double weight = scores[static_cast<std::size_t>(id)] * share * double{options.scale};
    routed.weights.push_back({weight, std::abs(weight)});
  }
  return routed;
}

}  // namespace millrace::oracle
