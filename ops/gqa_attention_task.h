// What a kernel of gqa_attention gets: some rows of one sequence, one kv head and the query heads that share it. No
// containers, so that kernel sources may include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/key_panels.h"
#include "runtime/numerics.h"

namespace millrace {

inline constexpr std::int64_t gqa_block = 512;  // keys of a block of the softmax

// Keys with consecutive numbers in consecutive memory.
struct GqaRun {
  const void* keys;         // panels (KeyPanels)
  std::int64_t place;       // of the first key in them
  const void* values;       // (end - begin, v_dim)
  std::int64_t begin, end;  // their numbers
  const float* bias;        // (end - begin), added to the scaled scores of every head, or null
};

// The softmax over some keys of each query, not divided yet. A query is a row with one of the group's heads.
struct GqaSums {
  float* largest;  // (queries) the largest score
  float* sum;      // (queries) of exp(score - largest)
  float* out;      // (queries, v_dim) values weighted by the same

  GqaSums(float* memory, std::int64_t queries) noexcept
      : largest(memory), sum(memory + queries), out(memory + 2 * queries) {}
  static constexpr std::int64_t floats(std::int64_t queries, std::int64_t v_dim) noexcept {
    return queries * (v_dim + 2);
  }
};

struct GqaTask {
  const float* q;      // (rows, group, qk_dim), rows being q_stride apart
  const float* sinks;  // (group), or null
  float* out;          // (rows, group, v_dim), rows being out_stride apart
  std::int64_t q_stride, out_stride;
  const GqaRun* runs;  // in ascending order of their numbers; each row sees one key at least
  std::int64_t run_count;
  // Row r sees the keys numbered before end + r, and with a window none before end + r - window.
  std::int64_t end, window;
  std::int64_t rows, group, qk_dim, v_dim;
  float scale;
  Rounding rounding;
  Rounding shift;  // of score - largest, with rounding
  bool bf16;       // element type of keys and values: bf16, or fp32
  // Null; or the keys are those of one block, whose sums are left here in place of `out`: GqaSums of rows * group.
  float* block_sums;
  const void* next;     // what will be read after these keys and values, or null
  float* scratch;       // GqaScratch::floats; GqaSums of all keys and the sinks are left at its beginning
  std::int64_t stride;  // scores of a query that fit there

  std::int64_t queries() const noexcept { return rows * group; }
};

// Sums of blocks become the output of one row and one kv head.
struct GqaMerge {
  const float* blocks;  // sums of each block that the row sees, `block_stride` apart
  std::int64_t block_count, block_stride;
  std::int64_t queries;  // of a block's sums
  std::int64_t first;    // the row's first query among them
  const float* sinks;    // (group), or null
  float* out;            // (group, v_dim)
  std::int64_t group, v_dim;
  float* scratch;  // GqaSums of `group`
};

// How the kernels divide their scratch.
struct GqaScratch {
  static constexpr std::int64_t panel_keys = 32;  // keys and values at hand in fp32

  GqaSums total, block;
  float* keys;    // panels in fp32
  float* values;  // (panel_keys, v_dim)
  float* scores;  // (queries, stride)

  explicit GqaScratch(const GqaTask& task) noexcept
      : total(task.scratch, task.queries()),
        block(task.scratch + aligned(GqaSums::floats(task.queries(), task.v_dim)), task.queries()),
        keys(task.scratch + 2 * aligned(GqaSums::floats(task.queries(), task.v_dim))),
        values(keys + aligned(panel_keys * task.qk_dim)),
        scores(values + aligned(panel_keys * task.v_dim)) {}

  static constexpr std::int64_t floats(std::int64_t queries, std::int64_t stride, std::int64_t qk_dim,
                                       std::int64_t v_dim) noexcept {
    return 2 * aligned(GqaSums::floats(queries, v_dim)) + aligned(panel_keys * qk_dim) + aligned(panel_keys * v_dim) +
           queries * stride;
  }

 private:
  static constexpr std::int64_t aligned(std::int64_t count) noexcept { return (count + 15) / 16 * 16; }
};

using GqaAttentionFn = void(const GqaTask& task) noexcept;
using GqaMergeFn = void(const GqaMerge& merge) noexcept;

}  // namespace millrace
