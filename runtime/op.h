// Op: one operator of the graph with its constants and weights. Immutable after construction, shared by all sessions;
// everything that changes comes in through the StepContext.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/batch.h"
#include "runtime/parallel.h"

namespace millrace {

// What a step may touch while it runs. Values are dense row-major arrays whose leading dimension is the row.
struct StepContext {
  const Batch& batch;
  const Parallel& parallel;
  std::int64_t rows;  // rows of this step's outputs
  std::span<const std::byte* const> inputs;
  std::span<std::byte* const> outputs;
  std::span<std::byte> scratch;  // at least Op::scratch_bytes, aligned to Buffer::alignment, contents undefined

  template <class T = float>
  const T* input(std::size_t index) const {
    return reinterpret_cast<const T*>(inputs[index]);
  }
  template <class T = float>
  T* output(std::size_t index) const {
    return reinterpret_cast<T*>(outputs[index]);
  }
};

// What a step must move and multiply at the least: the terms of a roofline.
struct Cost {
  double weight_bytes = 0;      // weights that some row needs, as they are stored, read once
  double cache_bytes = 0;       // keys and values that some row sees, read once, and new ones written
  double activation_bytes = 0;  // inputs and outputs; they often stay in the processor's caches
  double flops = 0;             // a multiply-add counts two

  double bytes() const noexcept { return weight_bytes + cache_bytes + activation_bytes; }
  Cost& operator+=(const Cost& other) noexcept {
    weight_bytes += other.weight_bytes;
    cache_bytes += other.cache_bytes;
    activation_bytes += other.activation_bytes;
    flops += other.flops;
    return *this;
  }
};

class Op {
 public:
  virtual ~Op() = default;

  // The operator's name in the field, e.g. "rms_norm".
  virtual std::string_view kind() const noexcept = 0;

  // Computes the outputs from the inputs. May throw Error; may not allocate.
  virtual void run(const StepContext& context) const = 0;

  // Memory that run() needs beside its outputs, for at most `rows` rows on `threads` threads.
  virtual std::size_t scratch_bytes([[maybe_unused]] std::int64_t rows, [[maybe_unused]] int threads) const {
    return 0;
  }

  // Of run() with the same context, before or after it, as long as its inputs and the lengths of its caches stay. May
  // not allocate. `inputs` may be empty, for steps that are only planned: what depends on values is then assumed to be
  // spread evenly.
  virtual Cost cost(const StepContext& context) const = 0;
};

}  // namespace millrace
