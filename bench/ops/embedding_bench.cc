#include "ops/embedding.h"

#include <benchmark/benchmark.h>

#include "tests/support/run_op.h"

namespace millrace {
namespace {

void embedding(benchmark::State& state) {
  const std::int64_t rows = state.range(0), hidden = 4096, vocab = 1024;
  const std::vector<std::uint16_t> table(static_cast<std::size_t>(vocab * hidden), 0x3f80);
  const std::array<std::int64_t, 2> shape = {vocab, hidden};
  const Embedding op(Tensor(Dtype::bf16, shape, table.data()), Rounding::none);
  std::vector<float> y(static_cast<std::size_t>(rows * hidden));
  Batch batch;
  for (std::int64_t row = 0; row < rows; ++row) batch.tokens.push_back(static_cast<std::int32_t>(row * 37 % vocab));
  for (auto _ : state) {
    test::run_op(op, rows, {}, {y.data()}, 1, batch);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * rows * hidden * 6);
}
BENCHMARK(embedding)->Arg(1)->Arg(512);

}  // namespace
}  // namespace millrace
