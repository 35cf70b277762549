// What a kernel of gqa_attention gets: one row, one kv head and the query heads that share it. No containers, so that
// kernel sources may include it.
#pragma once

#include <cstdint>

#include "runtime/numerics.h"

namespace millrace {

// Consecutive visible rows of one kv head.
struct GqaRun {
  const void* keys;    // (rows, qk_dim)
  const void* values;  // (rows, v_dim)
  std::int64_t rows;
};

struct GqaTask {
  const float* q;      // (group, qk_dim)
  const float* sinks;  // (group), or null
  float* out;          // (group, v_dim)
  const GqaRun* runs;  // in the order of the sequence; one visible row at least
  std::int64_t run_count;
  std::int64_t visible;  // rows of all runs
  float* scores;         // (group, stride); left behind: what denominators divide to get the probabilities
  float* denominators;   // (group), overwritten
  std::int64_t stride;   // a multiple of 16, at least `visible`
  std::int64_t group, qk_dim, v_dim;
  float scale;
  Rounding rounding;
  Rounding shift;  // of score - m
  bool bf16;       // element type of keys and values: bf16, or fp32
  // (visible), added to the scaled scores of every head, or null. The portable kernel alone obeys it.
  const float* bias = nullptr;
};

using GqaAttentionFn = void(const GqaTask& task) noexcept;

}  // namespace millrace
