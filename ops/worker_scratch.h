// WorkerScratch: what kernel calls of linear_kernels.h work with on each worker, in an operator's scratch memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ops/linear_kernels.h"
#include "ops/scratch_carver.h"

namespace millrace {

// Knows whose inputs the last call on a worker left in its memory (LinearCall::same_x). Not owning; a worker touches
// its own part only.
class WorkerScratch {
 public:
  WorkerScratch() = default;
  // For calls of up to so many inputs.
  WorkerScratch(ScratchCarver& carver, std::int64_t inputs, int threads) noexcept
      : threads_(threads),
        bytes_(linear_scratch_bytes(inputs)),
        memory_(carver.take<std::byte>(threads * static_cast<std::int64_t>(bytes_))),
        held_(carver.take<std::int64_t>(threads)) {}

  // No worker holds any inputs: before calls of other inputs or kernels.
  void clear() const noexcept { std::fill_n(held_, threads_, -1); }
  std::byte* of(int worker) const noexcept { return memory_ + static_cast<std::size_t>(worker) * bytes_; }
  // Whether the worker's memory holds the inputs of `group`, at least 0; from now on it does.
  bool hold(int worker, std::int64_t group) const noexcept { return std::exchange(held_[worker], group) == group; }

 private:
  int threads_ = 0;
  std::size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
  std::int64_t* held_ = nullptr;
};

}  // namespace millrace
