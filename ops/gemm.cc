#include "ops/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <limits>

#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::int64_t panel_outputs = 128;
constexpr int most_threads = 64;

std::size_t panel_bytes(std::int64_t inputs) noexcept {
  return static_cast<std::size_t>((panel_outputs * inputs + 15) / 16 * 16) * sizeof(float);
}

// Each call below runs on the thread that makes it: a pool of OpenBLAS's own would compete with ours and cut the sums
// differently. The OpenMP build keeps this setting for each thread, so each worker claims it.
bool claim_openblas() {
  constexpr int sequential = 0, openmp = 2;
  const int kind = openblas_get_parallel();
  require(kind == sequential || kind == openmp, Errc::unsupported,
          "OpenBLAS is built with threads of its own (kind {}), expected the OpenMP or the sequential build", kind);
  openblas_set_num_threads(1);
  return true;
}

}  // namespace

std::size_t gemm_scratch_bytes(std::int64_t inputs, int threads) noexcept {
  return static_cast<std::size_t>(threads) * panel_bytes(inputs);
}

std::string_view gemm_core() noexcept {
  return openblas_get_corename();
}

void gemm_f32(const float* x, std::int64_t rows, const Tensor& weight, float* y, const Parallel& parallel,
              std::span<std::byte> scratch) {
  require(weight.rank() == 2 && weight.dtype() == Dtype::bf16, Errc::bad_argument,
          "gemm: a weight of {} {}, expected BF16 [outputs, inputs]", name_of(weight.dtype()),
          shape_text(weight.shape()));
  const std::int64_t outputs = weight.dim(0), inputs = weight.dim(1);
  constexpr std::int64_t most = std::numeric_limits<blasint>::max();
  require(rows >= 0 && rows <= most && outputs <= most && inputs <= most, Errc::bad_argument,
          "gemm: {} rows by {} is more than OpenBLAS can count", rows, shape_text(weight.shape()));
  require(parallel.threads() <= most_threads, Errc::bad_argument, "gemm: {} threads, at most {} expected",
          parallel.threads(), most_threads);
  require(scratch.size() >= gemm_scratch_bytes(inputs, parallel.threads()), Errc::bad_argument,
          "gemm: a scratch of {} bytes, expected {}", scratch.size(), gemm_scratch_bytes(inputs, parallel.threads()));
  if (rows == 0) return;
  const std::int64_t work = rows * panel_outputs * inputs;
  parallel.for_tasks((outputs + panel_outputs - 1) / panel_outputs, work, [&](std::int64_t task, int worker) {
    [[maybe_unused]] thread_local const bool claimed = claim_openblas();
    const std::int64_t begin = task * panel_outputs, count = std::min(panel_outputs, outputs - begin);
    auto* panel = reinterpret_cast<float*>(scratch.data() + static_cast<std::size_t>(worker) * panel_bytes(inputs));
    const Bfloat16* source = weight.as<Bfloat16>() + begin * inputs;
    for (std::int64_t i = 0; i < count * inputs; ++i) panel[i] = bf16_to_f32(source[i]);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(rows), static_cast<blasint>(count),
                static_cast<blasint>(inputs), 1.0f, x, static_cast<blasint>(inputs), panel,
                static_cast<blasint>(inputs), 0.0f, y + begin, static_cast<blasint>(outputs));
  });
}

}  // namespace millrace
