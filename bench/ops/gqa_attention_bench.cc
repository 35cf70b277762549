#include "ops/gqa_attention.h"

#include <benchmark/benchmark.h>

#include <vector>

namespace millrace {
namespace {

// One row of one kv head, as in the full layers of MiMo-V2-Flash (group 16) and its windows (group 8).
void gqa_attention(benchmark::State& state) {
  const std::int64_t visible = state.range(0), group = state.range(1), qk_dim = 192, v_dim = 128;
  const auto sized = [](std::int64_t count) { return std::vector<float>(static_cast<std::size_t>(count), 0.1f); };
  const auto q = sized(group * qk_dim);
  auto out = sized(group * v_dim), scores = sized(group * visible), denominators = sized(group);
  const std::vector<std::uint16_t> keys(static_cast<std::size_t>(visible * qk_dim), 0x3dcd);
  const std::vector<std::uint16_t> values(static_cast<std::size_t>(visible * v_dim), 0x3dcd);
  const GqaRun run{.keys = keys.data(), .values = values.data(), .rows = visible};
  const GqaTask task{.q = q.data(),
                     .sinks = nullptr,
                     .out = out.data(),
                     .runs = &run,
                     .run_count = 1,
                     .visible = visible,
                     .scores = scores.data(),
                     .denominators = denominators.data(),
                     .stride = visible,
                     .group = group,
                     .qk_dim = qk_dim,
                     .v_dim = v_dim,
                     .scale = 0.07f,
                     .rounding = Rounding::none,
                     .shift = Rounding::none,
                     .bf16 = true};
  for (auto _ : state) {
    gqa_attention_kernel.best()(task);
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["flops"] = benchmark::Counter(static_cast<double>(2 * visible * group * (qk_dim + v_dim)),
                                               benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(gqa_attention)->Args({128, 8})->Args({1024, 16})->Args({8192, 16});

}  // namespace
}  // namespace millrace
