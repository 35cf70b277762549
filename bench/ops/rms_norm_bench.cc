#include "ops/rms_norm.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace millrace {
namespace {

void rms_norm(benchmark::State& state) {
  const std::int64_t rows = state.range(0), hidden = state.range(1);
  std::vector<float> x(static_cast<std::size_t>(rows * hidden), 0.5f), y(x.size()),
      weight(static_cast<std::size_t>(hidden), 1);
  for (auto _ : state) {
    rms_norm_kernel.best()(x.data(), weight.data(), y.data(), rows, hidden, 1e-5f, Rounding::none);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * rows * hidden * 8);
}
BENCHMARK(rms_norm)->Args({1, 4096})->Args({512, 4096});

}  // namespace
}  // namespace millrace
