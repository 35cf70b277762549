#include "ops/concat.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "tests/support/run_op.h"

namespace millrace {
namespace {

void concat(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = 4096;
  const Concat op(width, width);
  std::vector<float> a(static_cast<std::size_t>(rows * width)), b(a.size()), y(2 * a.size());
  for (auto _ : state) {
    test::run_op(op, rows, {a.data(), b.data()}, {y.data()}, 1);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * rows * width * 16);
}
BENCHMARK(concat)->Arg(1)->Arg(128);

}  // namespace
}  // namespace millrace
