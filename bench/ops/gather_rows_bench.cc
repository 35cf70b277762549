#include "ops/gather_rows.h"

#include <benchmark/benchmark.h>

#include "tests/support/run_op.h"

namespace millrace {
namespace {

void gather_rows(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = 4096;
  const GatherRows op(width);
  std::vector<float> x(static_cast<std::size_t>(2 * rows * width)), y(x.size() / 2);
  Batch batch;
  batch.tokens.resize(static_cast<std::size_t>(2 * rows));
  for (std::int64_t row = 0; row < rows; ++row) batch.logits_rows.push_back(static_cast<std::int32_t>(2 * row));
  for (auto _ : state) {
    test::run_op(op, rows, {x.data()}, {y.data()}, 1, batch);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * rows * width * 8);
}
BENCHMARK(gather_rows)->Arg(1)->Arg(256);

}  // namespace
}  // namespace millrace
