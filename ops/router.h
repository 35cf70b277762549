// Router: chooses the experts of each row and their weights from the router logits z.
//   s = sigmoid(z), c = s + correction bias; the bias only chooses.
//   Groups: the experts form `groups` equal runs, scored by the sum of the two largest c; only the experts of the
//   `top_groups` best runs can be chosen.
//   The `top_k` largest c are chosen, ties going to the lower id (of groups too); they are given in ascending order.
//   weight = s, divided by (the sum of the chosen s in ascending order of ids + norm_floor) if `normalize`, times
//   scale.
// A NaN logit counts as the lowest: it is chosen only when nothing else is left, and then the row's weights are NaN.
// A run that brings experts for this layer (RunInputs::forced) gets those instead: with the weights it brings, or with
// weights computed for them from the row's own logits.
// Source: Transformers MiMoV2FlashMoEGate, MiniMaxM2SparseMoeBlock.
#pragma once

#include <vector>

#include "ops/isa.h"
#include "runtime/op.h"

namespace millrace {

struct RouterOptions {
  int layer = 0;  // which of RunInputs::forced are for this router
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  std::int64_t groups = 1;
  std::int64_t top_groups = 1;
  bool normalize = true;
  float norm_floor = 1e-20f;
  float scale = 1;
};

// scores = sigmoid(logits), choice = scores + bias or -infinity where that is a NaN. All: (experts).
using RouterScoresFn = void(const float* logits, const float* bias, float* scores, float* choice,
                            std::int64_t experts) noexcept;
extern const Kernel<RouterScoresFn> router_scores_kernel;

class Router final : public Op {
 public:
  // Input 0: logits (rows, experts). Output 0: ids, i32 (rows, top_k); output 1: weights (rows, top_k).
  // correction_bias: (experts), finite, or empty for none. Throws Error(bad_argument) naming the option.
  Router(const RouterOptions& options, std::vector<float> correction_bias);

  std::string_view kind() const noexcept override { return "router"; }
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(const StepContext& context) const override;

 private:
  // What one worker needs: scores and choice (experts), group scores and the groups kept (groups).
  struct Scratch {
    float *scores, *choice, *group_scores;
    std::int32_t* kept_groups;
  };
  std::size_t worker_bytes() const noexcept;
  Scratch scratch_of(const StepContext& context, int worker) const noexcept;
  void drop_groups(const Scratch& scratch) const noexcept;
  void replay(const StepContext& context, const Batch::Run& run) const;
  void weigh(const float* scores, const std::int32_t* ids, float* weights) const noexcept;

  RouterOptions options_;
  std::vector<float> bias_;
};

}  // namespace millrace
