#include "ops/rope.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace millrace {
namespace {

void rope(benchmark::State& state) {
  const std::int64_t rows = state.range(0), heads = state.range(1), dim = 192, half = 32;
  std::vector<float> x(static_cast<std::size_t>(rows * heads * dim), 0.5f), y(x.size());
  const std::vector<float> cosines(static_cast<std::size_t>(rows * half), 0.6f), sines(cosines.size(), 0.8f);
  for (auto _ : state) {
    rope_kernel.best()(x.data(), cosines.data(), sines.data(), y.data(), rows, heads, dim, half, Rounding::none,
                       Rounding::none);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * rows * heads * dim * 8);
}
BENCHMARK(rope)->Args({1, 64})->Args({512, 64});

}  // namespace
}  // namespace millrace
