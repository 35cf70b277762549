#include "ops/router.h"

#include <benchmark/benchmark.h>

#include <cmath>

#include "tests/support/run_op.h"

namespace millrace {
namespace {

void router(benchmark::State& state) {
  const std::int64_t rows = state.range(0), experts = 256, top_k = 8;
  const Router op({.experts = experts, .top_k = top_k}, std::vector<float>(static_cast<std::size_t>(experts), 0.1f));
  std::vector<float> logits(static_cast<std::size_t>(rows * experts)), weights(static_cast<std::size_t>(rows * top_k));
  std::vector<std::int32_t> ids(weights.size());
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  for (auto _ : state) {
    test::run_op(op, rows, {logits.data()}, {ids.data(), weights.data()});
    benchmark::DoNotOptimize(ids.data());
  }
  state.SetItemsProcessed(state.iterations() * rows);
}
BENCHMARK(router)->Arg(1)->Arg(512);

}  // namespace
}  // namespace millrace
