// Grouped-query attention over the KV cache: causal softmax(q k^T / sqrt(qk_dim)) v with an optional window and an
// optional sink, one more logit per query head that has no value row and is not scaled. Query head h uses kv head
// h / (heads / kv_heads). Row i of a sequence sees its rows j with max(0, i - window + 1) <= j <= i, all of j <= i
// without a window. The cache's rows continue to be counted from the start of the sequence, whatever the positions are.
// A run may bring masks (RunInputs), which the same sums then follow over the keys that are seen, numbered without the
// hidden ones; so a mask that repeats the built-in rule gives the same bits. An additive mask adds to the scaled score
// (r() of both, with Rounding::bf16). A row that sees nothing gets zeros.
//
// Order of sums, with `first` the first visible row: score(j) = fused multiply-adds of lane e mod 16 for ascending e,
// lanes added i with i+8, i+4, i+2, i+1, then times scale; m = the largest score or the sink; p_j = exp(score(j) - m);
// denominator: lane (j - first) mod 16 adds p_j for ascending j, lanes added as above, then + exp(sink - m);
// out[e] = fused multiply-adds of p_j * v_j[e] for ascending j, then divided by the denominator.
// With Rounding::bf16 (r): score = r(r(q k) * scale), then r(p_j / denominator) weighs the values and the sum is
// rounded. `shift` rounds score - m on its own, since families differ there. Source: Transformers
// eager_attention_forward of MiMoV2Flash (softmax in the model's type) and of MiniMaxM2 (in fp32).
#pragma once

#include <vector>

#include "ops/gqa_attention_task.h"
#include "ops/isa.h"
#include "runtime/kv_cache.h"
#include "runtime/op.h"
#include "runtime/run_inputs.h"

namespace millrace {

extern const Kernel<GqaAttentionFn> gqa_attention_kernel;

struct GqaAttentionOptions {
  int kv_layer = 0;           // index in the caches of the batch
  std::int64_t heads = 0;     // query heads, a multiple of kv.kv_heads
  LayerKvShape kv;            // the layer's cache, window included
  Dtype cache = Dtype::bf16;  // its element type: bf16 or f32
  std::vector<float> sinks;   // (heads), or empty
  Rounding rounding = Rounding::none;
  Rounding shift = Rounding::none;
  std::int64_t max_context = 0;  // rows a sequence may reach: bounds the scratch memory
};

class GqaAttention final : public Op {
 public:
  // Inputs per row: q (heads, qk_dim), k (kv_heads, qk_dim), v (kv_heads, v_dim); k and v are rounded to the type of
  // the cache, into which they go. Output 0: (heads, v_dim). The lengths of the caches stay: Program::run advances
  // them. Throws Error(bad_argument) on options that contradict each other.
  explicit GqaAttention(GqaAttentionOptions options);

  std::string_view kind() const noexcept override { return "gqa_attention"; }
  // Throws Error(bad_argument) for a cache of another type, a sequence beyond max_context, or a mask that shows a key
  // the ring no longer holds. Allocates only for masks.
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(std::int64_t rows) const override;  // of a sequence's first row: what the cache adds is not known here

 private:
  // The memory of one worker: scores, denominators, runs and, for masks, additions to the scores.
  struct Worker {
    std::int64_t stride;  // scores of one query head
    std::size_t runs_at, bias_at, bytes;
  };
  // What one task works on: a row, its run, the rows of the sequence it may see, its memory.
  struct Place {
    const Batch::Run& run;
    const KeyMask* mask;  // null = the built-in rule
    std::int64_t row, first, end, kv_head;
    std::byte* memory;

    std::int64_t own_row() const noexcept { return row - run.begin; }
  };
  Worker worker_layout() const noexcept;
  Worker masked_worker_layout(std::int64_t visible) const noexcept;
  std::size_t staged_bytes(std::int64_t rows) const noexcept;

  void check(const Batch& batch) const;
  void take_new_rows(const StepContext& context) const;
  std::int64_t longest(const Batch& batch) const noexcept;
  std::int64_t task_work(const Batch& batch) const noexcept;
  const KeyMask* mask_of(const Batch::Run& run) const noexcept;
  Place place_of(const StepContext& context, std::int64_t row, std::int64_t kv_head, std::byte* memory) const noexcept;
  void attend(const StepContext& context, const Place& place, const Worker& layout) const;
  std::int64_t collect_runs(const StepContext& context, const Place& place, std::int64_t first, std::int64_t end,
                            GqaRun* runs) const noexcept;
  std::int64_t collect_masked(const StepContext& context, const Place& place, GqaRun* runs, std::int64_t* visible,
                              float* bias) const;
  void record(const Place& place, const GqaTask& task) const noexcept;

  GqaAttentionOptions options_;
  std::int64_t group_;
  float scale_;
};

}  // namespace millrace
