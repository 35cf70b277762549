#include "ops/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/math.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/run_inputs.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(RouterScoresFn, router_scores)

namespace {

constexpr float lowest = -std::numeric_limits<float>::infinity();

// The indices of the `top` largest of (count) values without NaNs, the lower index first where they are equal.
// Values: descending. top <= count.
void largest_indices(const float* values, std::int64_t count, std::int64_t top, std::int32_t* indices) noexcept {
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (found < top)
      ++found;
    else if (!(values[i] > values[indices[top - 1]]))
      continue;
    std::int64_t at = found - 1;
    for (; at > 0 && values[i] > values[indices[at - 1]]; --at) indices[at] = indices[at - 1];
    indices[at] = static_cast<std::int32_t>(i);
  }
}

}  // namespace

namespace scalar {

void router_scores(const float* logits, const float* bias, float* scores, float* choice,
                   std::int64_t experts) noexcept {
  for (std::int64_t e = 0; e < experts; ++e) {
    scores[e] = sigmoid_f32(logits[e]);
    const float biased = scores[e] + bias[e];
    choice[e] = biased > lowest ? biased : lowest;
  }
}

}  // namespace scalar

const Kernel<RouterScoresFn> router_scores_kernel = {
    "router_scores",
    {scalar::router_scores, MILLRACE_AVX2(router_scores), MILLRACE_AVX512(router_scores), nullptr, nullptr},
};

Router::Router(const RouterOptions& options, std::vector<float> correction_bias)
    : options_(options), bias_(std::move(correction_bias)) {
  const auto& [layer, experts, top_k, groups, top_groups, normalize, norm_floor, scale] = options_;
  require(experts >= 1 && experts <= 1 << 20, Errc::bad_argument, "router: experts is {}, expected 1 to {}", experts,
          1 << 20);
  require(groups >= 1 && experts % groups == 0, Errc::bad_argument,
          "router: groups is {}, expected a divisor of the {} experts", groups, experts);
  require(groups == 1 || experts / groups >= 2, Errc::bad_argument,
          "router: groups is {}, but {} experts leave fewer than two for each", groups, experts);
  require(top_groups >= 1 && top_groups <= groups, Errc::bad_argument, "router: top_groups is {}, expected 1 to {}",
          top_groups, groups);
  require(top_k >= 1 && top_k <= experts / groups * top_groups, Errc::bad_argument,
          "router: top_k is {}, expected 1 to {}, the experts of {} groups", top_k, experts / groups * top_groups,
          top_groups);
  require(norm_floor >= 0 && std::isfinite(norm_floor), Errc::bad_argument,
          "router: norm_floor is {}, expected a finite number from 0", norm_floor);
  require(std::isfinite(scale), Errc::bad_argument, "router: scale is {}, expected a finite number", scale);
  require(bias_.empty() || bias_.size() == static_cast<std::size_t>(experts), Errc::bad_argument,
          "router: the correction bias has {} entries, expected {} or none", bias_.size(), experts);
  for (std::size_t e = 0; e < bias_.size(); ++e)
    require(std::isfinite(bias_[e]), Errc::bad_argument,
            "router: the correction bias of expert {} is {}, expected a finite number", e, bias_[e]);
  bias_.resize(static_cast<std::size_t>(experts), 0.0f);
}

std::size_t Router::worker_bytes() const noexcept {
  const auto bytes = static_cast<std::size_t>(2 * options_.experts + 2 * options_.groups) * sizeof(float);
  return Buffer::aligned(bytes);
}

std::size_t Router::scratch_bytes(std::int64_t, int threads) const {
  return static_cast<std::size_t>(threads) * worker_bytes();
}

Router::Scratch Router::scratch_of(const StepContext& context, int worker) const noexcept {
  auto* scores = reinterpret_cast<float*>(context.scratch.data() + static_cast<std::size_t>(worker) * worker_bytes());
  float* choice = scores + options_.experts;
  float* group_scores = choice + options_.experts;
  return {scores, choice, group_scores, reinterpret_cast<std::int32_t*>(group_scores + options_.groups)};
}

void Router::drop_groups(const Scratch& scratch) const noexcept {
  const std::int64_t size = options_.experts / options_.groups;
  for (std::int64_t group = 0; group < options_.groups; ++group) {
    const float* choice = scratch.choice + group * size;
    std::int32_t best[2];
    largest_indices(choice, size, 2, best);
    scratch.group_scores[group] = choice[best[0]] + choice[best[1]];
  }
  std::int32_t* kept = scratch.kept_groups;
  largest_indices(scratch.group_scores, options_.groups, options_.top_groups, kept);
  for (std::int32_t group = 0; group < options_.groups; ++group)
    if (std::find(kept, kept + options_.top_groups, group) == kept + options_.top_groups)
      std::fill_n(scratch.choice + group * size, size, lowest);
}

void Router::weigh(const float* scores, const std::int32_t* ids, float* weights) const noexcept {
  float sum = 0;
  for (std::int64_t i = 0; i < options_.top_k; ++i) sum += weights[i] = scores[ids[i]];
  for (std::int64_t i = 0; i < options_.top_k; ++i) {
    if (options_.normalize) weights[i] /= sum + options_.norm_floor;
    weights[i] *= options_.scale;
  }
}

void Router::run(const StepContext& context) const {
  const float* logits = context.input(0);
  auto* ids = context.output<std::int32_t>(0);
  float* weights = context.output(1);
  RouterScoresFn* kernel = router_scores_kernel.best();
  context.parallel.for_range(context.rows, 8, [&](std::int64_t begin, std::int64_t end, int worker) {
    const Scratch scratch = scratch_of(context, worker);
    for (std::int64_t row = begin; row < end; ++row) {
      std::int32_t* chosen = ids + row * options_.top_k;
      kernel(logits + row * options_.experts, bias_.data(), scratch.scores, scratch.choice, options_.experts);
      if (options_.top_groups < options_.groups) drop_groups(scratch);
      largest_indices(scratch.choice, options_.experts, options_.top_k, chosen);
      std::sort(chosen, chosen + options_.top_k);
      weigh(scratch.scores, chosen, weights + row * options_.top_k);
    }
  });
  for (const Batch::Run& run : context.batch.runs)
    if (run.inputs != nullptr && !run.inputs->forced.empty()) replay(context, run);
}

// Overwrites what was chosen for the rows of `run` with what they bring for this layer, if anything.
void Router::replay(const StepContext& context, const Batch::Run& run) const {
  const auto forced = std::find_if(run.inputs->forced.begin(), run.inputs->forced.end(),
                                   [this](const ForcedExperts& of) { return of.layer == options_.layer; });
  if (forced == run.inputs->forced.end()) return;
  const std::int64_t top_k = options_.top_k;
  RouterScoresFn* kernel = router_scores_kernel.best();
  context.parallel.for_range(run.end - run.begin, 8, [&](std::int64_t begin, std::int64_t end, int worker) {
    const Scratch scratch = scratch_of(context, worker);
    for (std::int64_t own = begin; own < end; ++own) {
      const std::int64_t row = run.begin + own;
      std::int32_t* ids = context.output<std::int32_t>(0) + row * top_k;
      float* weights = context.output(1) + row * top_k;
      std::copy_n(forced->ids + own * top_k, top_k, ids);
      for (std::int64_t i = 0; i < top_k; ++i)
        require(ids[i] >= 0 && ids[i] < options_.experts, Errc::bad_argument,
                "layer {}, row {}: the forced expert {} is outside 0 to {}", options_.layer, own, ids[i],
                options_.experts - 1);
      kernel(context.input(0) + row * options_.experts, bias_.data(), scratch.scores, scratch.choice, options_.experts);
      weigh(scratch.scores, ids, weights);
      if (forced->weights != nullptr) std::copy_n(forced->weights + own * top_k, top_k, weights);
    }
  });
}

Cost Router::cost(const StepContext& context) const {
  const auto experts = static_cast<double>(options_.experts), top_k = static_cast<double>(options_.top_k);
  const auto rows = static_cast<double>(context.rows);
  return {.weight_bytes = 4 * static_cast<double>(bias_.size()),
          .activation_bytes = rows * (4 * experts + 8 * top_k),
          .flops = rows * 24 * experts};
}

}  // namespace millrace
