// gemm_f32: y = x W^T by OpenBLAS sgemm on weights widened to fp32. It has its own order of sums and so does NOT keep
// the order contract of ops/linear_kernels.h; it serves as a second opinion in tests and as a peer in benchmarks.
// Weights are cut into panels of one fixed shape, each multiplied on one thread, so that results do not depend on the
// number of threads; they may depend on the number of rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/parallel.h"
#include "runtime/tensor.h"

namespace millrace {

// x: (rows, inputs), weight: BF16 (outputs, inputs), y: (rows, outputs); scratch: at least gemm_scratch_bytes, aligned
// to 64. Computing thread only. Throws Error(bad_argument) for other weights, a short scratch or more than 64 threads
// (what OpenBLAS is built for), Error(unsupported) if OpenBLAS was built on a thread pool of its own.
void gemm_f32(const float* x, std::int64_t rows, const Tensor& weight, float* y, const Parallel& parallel,
              std::span<std::byte> scratch);

std::size_t gemm_scratch_bytes(std::int64_t inputs, int threads) noexcept;

// The processor family whose kernels OpenBLAS chose; it falls back to SSE ("Prescott") on one newer than itself, where
// the environment variable OPENBLAS_CORETYPE helps.
std::string_view gemm_core() noexcept;

}  // namespace millrace
