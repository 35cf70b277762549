#include "ops/swiglu.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace millrace {
namespace {

void swiglu(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  std::vector<float> gate(static_cast<std::size_t>(count), 0.5f), up(gate.size(), 2.0f), out(gate.size());
  for (auto _ : state) {
    swiglu_kernel.best()(gate.data(), up.data(), out.data(), count, Rounding::none);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * count * 12);
}
BENCHMARK(swiglu)->Arg(2048)->Arg(512 * 2048);

}  // namespace
}  // namespace millrace
