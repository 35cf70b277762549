// What this processor can do at best, to hold operators against: reading memory and multiplying, nothing else.
// Measured by the wall clock on the threads given, so that it means the same as the time of a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ops/isa.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"

namespace millrace {

// Reads `bytes` (a multiple of 256) in one stream, prefetching as the kernels do; the result only keeps it honest.
using ReadStreamFn = std::int32_t(const std::byte* source, std::int64_t bytes) noexcept;
extern const Kernel<ReadStreamFn> read_stream_kernel;
// The same without prefetches: what loads alone reach.
extern const Kernel<ReadStreamFn> raw_read_kernel;

// `steps` rounds of 16 multiply-adds on registers, in chains that depend on themselves only.
using MultiplyPeakFn = float(std::int64_t steps) noexcept;

struct MultiplyPeak {
  std::string_view name;  // of the instruction
  MultiplyPeakFn* run;
  double step_flops;
};

// One for each instruction the operators may multiply with on the active tier.
std::vector<MultiplyPeak> multiply_peaks();

// Memory that no cache holds.
class ReadCeiling {
 public:
  // Takes `bytes` of memory, rounded up, on 2 MiB pages. Throws Error(out_of_memory).
  explicit ReadCeiling(std::size_t bytes);

  // Bytes per second of reading all of it once, one stream per thread.
  double measure(const Parallel& parallel) const;

 private:
  Buffer memory_;
};

// Flops per second of all threads; takes about `seconds`.
double measure_peak(const MultiplyPeak& peak, const Parallel& parallel, double seconds);

}  // namespace millrace
