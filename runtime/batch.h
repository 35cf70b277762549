// Batch: the rows of one pass. Rows of one sequence are consecutive and continue what its cache holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace millrace {

class KvCache;
struct RunInputs;

struct Batch {
  // Rows [begin, end) of the batch continue the sequence in `cache` (not owned; its length grows after the pass).
  struct Run {
    KvCache* cache;
    std::int64_t begin, end;
    const RunInputs* inputs = nullptr;  // masks and the like (runtime/run_inputs.h); not owned
  };

  std::vector<std::int32_t> tokens;       // (rows) token ids
  std::vector<std::int32_t> positions;    // (rows) positions for the rotary embedding
  std::vector<Run> runs;                  // in row order, covering every row
  std::vector<std::int32_t> logits_rows;  // rows that want logits, ascending

  std::int64_t rows() const noexcept { return static_cast<std::int64_t>(tokens.size()); }
  // The run that holds `row`, or null in a batch without runs.
  const Run* run_of(std::int64_t row) const noexcept {
    const auto after = std::upper_bound(runs.begin(), runs.end(), row,
                                        [](std::int64_t value, const Run& run) { return value < run.begin; });
    return after == runs.begin() ? nullptr : &*(after - 1);
  }
};

}  // namespace millrace
