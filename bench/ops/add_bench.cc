#include "ops/add.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace millrace {
namespace {

void add(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  std::vector<float> a(static_cast<std::size_t>(count), 0.5f), b(a.size(), 2.0f), y(a.size());
  for (auto _ : state) {
    add_kernel.best()(a.data(), b.data(), y.data(), count, Rounding::bf16);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * count * 12);
}
BENCHMARK(add)->Arg(4096)->Arg(512 * 4096);

}  // namespace
}  // namespace millrace
