// Grouped-query attention over the KV cache: causal softmax(q k^T / sqrt(qk_dim)) v with an optional window and an
// optional sink, one more logit per query head that has no value row and is not scaled. Query head h uses kv head
// h / (heads / kv_heads). Row i of a sequence sees its rows j with max(0, i - window + 1) <= j <= i, all of j <= i
// without a window. The cache's rows continue to be counted from the start of the sequence, whatever the positions are.
// A run may bring masks (RunInputs), which the same sums then follow over the keys that are seen; so a mask that
// repeats the built-in rule gives the same bits. An additive mask adds to the scaled score (r() of both, with
// Rounding::bf16). A row that sees nothing gets zeros.
//
// Order of sums. The number of a key is its row in the sequence, not counting rows that KeyMask::keep hides. score(j) =
// fused multiply-adds for ascending e, then times scale. Keys are taken in blocks of gqa_block by their numbers, each
// by itself: m = its largest score; p_j = exp(score(j) - m); lane j mod 16 adds p_j for ascending j, lanes are added i
// with i+8, i+4, i+2, i+1 and give l; o[e] = fused multiply-adds of p_j * v_j[e] for ascending j, from zero. Blocks
// with a visible key are merged in ascending order into (M, L, O), which begins as the first of them: M' = max(M, m),
// then L' = fma(l, exp(m - M'), L * exp(M - M')), O' likewise. The sink is merged last, as a block with m = sink, l = 1
// and no o. out = O / L. So blocks may be computed by different threads, at different times, and beside those of any
// rows. With Rounding::bf16 (r) there are no blocks, since weights need the denominator: score = r(r(q k) * scale), m
// is the largest of all and the sink, the denominator adds p_j by lanes, then exp(sink - m); r(p_j / denominator)
// weighs the values and the sum is rounded. `shift` rounds score - m on its own, since families differ there. Source:
// Transformers eager_attention_forward of MiMoV2Flash (softmax in the model's type) and of MiniMaxM2 (in fp32).
#pragma once

#include <vector>

#include "ops/gqa_attention_task.h"
#include "ops/isa.h"
#include "runtime/buffer.h"
#include "runtime/kv_cache.h"
#include "runtime/op.h"
#include "runtime/run_inputs.h"

namespace millrace {

extern const Kernel<GqaAttentionFn> gqa_attention_kernel;
extern const Kernel<GqaMergeFn> gqa_merge_kernel;

// Of a task of one row that was computed: leaves the probabilities of its keys, in their order, for each head of the
// group, in the scores of the task's scratch.
void gqa_probabilities(const GqaTask& task) noexcept;

struct GqaAttentionOptions {
  int kv_layer = 0;           // index in the caches of the batch
  std::int64_t heads = 0;     // query heads, a multiple of kv.kv_heads
  LayerKvShape kv;            // the layer's cache, window included
  Dtype cache = Dtype::bf16;  // its element type: bf16 or f32
  std::vector<float> sinks;   // (heads), or empty
  Rounding rounding = Rounding::none;
  Rounding shift = Rounding::none;  // with `rounding` only
  std::int64_t max_context = 0;     // rows a sequence may reach: bounds the scratch memory
};

class GqaAttention final : public Op {
 public:
  // Inputs per row: q (heads, qk_dim), k (kv_heads, qk_dim), v (kv_heads, v_dim); k and v are rounded to the type of
  // the cache, into which they go. Output 0: (heads, v_dim). The lengths of the caches stay: Program::run advances
  // them. Throws Error(bad_argument) on options that contradict each other.
  explicit GqaAttention(GqaAttentionOptions options);

  std::string_view kind() const noexcept override { return "gqa_attention"; }
  // Throws Error(bad_argument) for a cache of another type, a sequence beyond max_context, or a mask that shows a key
  // the ring no longer holds. Allocates only for masks and for recorded probabilities.
  void run(const StepContext& context) const override;
  std::size_t scratch_bytes(std::int64_t rows, int threads) const override;
  Cost cost(const StepContext& context) const override;

 private:
  // Blocks of so few rows are shared out one by one, from so many blocks on: fewer tasks would leave threads idle.
  static constexpr std::int64_t most_split_rows = 8, least_split_blocks = 4;

  // The memory of one worker: what the kernel takes, runs and, for masks, additions to the scores.
  struct Worker {
    std::int64_t tile_rows;  // rows of a task at the most
    std::int64_t stride;     // scores of a query
    std::size_t runs_at, bias_at, bytes;
  };
  // Consecutive rows of a run that one task works on, with one kv head.
  struct Tile {
    const Batch::Run& run;
    const KeyMask* mask;  // null = the built-in rule; with one the tile is one row
    std::int64_t row, rows;
    std::int64_t first, end;  // rows of the sequence that any of them may see

    std::int64_t own_row() const noexcept { return row - run.begin; }
  };
  struct Pass;

  Worker worker_layout(std::int64_t tile_rows, std::int64_t visible, std::int64_t runs,
                       std::int64_t bias) const noexcept;
  Worker plain_layout() const noexcept;
  Worker exact_layout(std::int64_t visible) const noexcept;
  std::size_t staged_bytes(std::int64_t rows) const noexcept;
  std::int64_t most_blocks() const noexcept;
  std::size_t block_bytes(std::int64_t rows, int threads) const noexcept;

  void check(const Batch& batch) const;
  void take_new_rows(const StepContext& context) const;
  std::int64_t longest(const Batch& batch) const noexcept;
  const KeyMask* mask_of(const Batch::Run& run) const noexcept;
  float* recorded(const Batch::Run& run) const noexcept;
  Tile tile_of(const Batch& batch, std::int64_t index, std::int64_t tile_rows) const noexcept;
  GqaTask task_of(const StepContext& context, const Tile& tile, std::int64_t kv_head, const Worker& layout,
                  std::byte* memory) const noexcept;
  Pass pass_of(const StepContext& context, Buffer& exact) const;
  void attend(const Pass& pass, const Tile& tile, std::int64_t kv_head, std::byte* memory) const;
  void attend_masked(const Pass& pass, const Tile& tile, std::int64_t kv_head, std::byte* memory) const;
  void attend_blocks(const Pass& pass) const;
  std::int64_t collect_runs(const StepContext& context, const Tile& tile, std::int64_t kv_head, std::int64_t first,
                            std::int64_t end, GqaRun* runs) const noexcept;
  std::int64_t collect_masked(const StepContext& context, const Tile& tile, std::int64_t kv_head, GqaRun* runs,
                              float* bias) const;
  const void* keys_from(const Tile& tile, std::int64_t kv_head, std::int64_t row) const noexcept;
  void record(const Tile& tile, std::int64_t kv_head, const GqaTask& task) const noexcept;

  GqaAttentionOptions options_;
  std::int64_t group_;
  float scale_;
};

}  // namespace millrace
