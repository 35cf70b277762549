// The scratch memory of expert_mlp, for its own sources only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ops/expert_mlp.h"
#include "ops/worker_scratch.h"

namespace millrace {

// A pair is a row with one of its experts; pairs are sorted by expert, then by row.
struct ExpertMlp::Memory {
  using Packed = std::array<std::byte*, most_forms>;  // not used by forms that take rows as they are

  Packed packed_x;          // (rows) packed in each form; as tiles (wave_pairs), of the rows of the wave's pairs
  std::int32_t* used;       // the experts that have rows, ascending
  std::int32_t* first;      // (experts + 1) first pair of each expert
  std::int32_t* pair_row;   // (rows * top_k) the row of each pair
  std::int32_t* pair_of;    // (rows, top_k) the pair of each choice, -1 in inactive rows
  std::int32_t* hinted;     // (experts) of the next layer
  float* hint_weight;       // (experts)
  std::int64_t wave_pairs;  // room for pairs in a wave, for the values below
  float* gate;              // (wave_pairs, width), then silu(gate) * up
  float* up;                // (wave_pairs, width)
  Packed packed_t;          // (wave_pairs) rows of `gate`, packed in each form
  float* y;                 // (wave_pairs, hidden)
  WorkerScratch workers;
  std::size_t bytes;
};

}  // namespace millrace
