// What this processor can do at best, to hold kernels against: reading memory and multiplying, nothing else.
#pragma once

#include <cstdint>

#include "ops/isa.h"

namespace millrace::bench {

// Reads `bytes` (a multiple of 256) in one stream, prefetching as the kernels do; the result only keeps it honest.
using ReadStreamFn = std::int32_t(const std::byte* source, std::int64_t bytes) noexcept;
extern const Kernel<ReadStreamFn> read_stream;

// `steps` rounds of independent multiply-adds on registers: fp32 (flops_per_fma each) or bf16 pairs.
using PeakFn = float(std::int64_t steps) noexcept;
extern const Kernel<PeakFn> peak_fma;     // 16 * 16 * 2 flops a step
extern const Kernel<PeakFn> peak_dpbf16;  // 16 * 32 * 2 flops a step; null below avx512bf16

inline constexpr double peak_fma_flops = 16 * 16 * 2, peak_dpbf16_flops = 16 * 32 * 2;

}  // namespace millrace::bench
