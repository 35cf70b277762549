#include "ops/gqa_attention.h"

#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

namespace millrace {
namespace {

struct Shape {
  std::int64_t heads, kv_heads, qk_dim, v_dim, window;
};
constexpr Shape mimo_full = {64, 4, 192, 128, 0}, mimo_window = {64, 8, 192, 128, 128}, minimax = {48, 8, 128, 128, 0};
constexpr Shape reduced_full = {32, 4, 192, 128, 0}, reduced_window = {32, 8, 192, 128, 128};

// `rows` rows that continue a sequence of `depth`, in layers of their own: so many that their caches exceed the
// processor's. Ranges: rows, depth, threads.
void gqa_attention(benchmark::State& state, const Shape& shape) {
  const std::int64_t rows = state.range(0), depth = state.range(1);
  const Parallel parallel(static_cast<int>(state.range(2)));
  const LayerKvShape kv{shape.kv_heads, shape.qk_dim, shape.v_dim, shape.window};
  const std::int64_t visible = shape.window > 0 ? std::min(shape.window, depth + rows) : depth + rows;
  const std::int64_t layer_bytes = 2 * kv.row_elements() * visible;
  const auto layers =
      static_cast<std::size_t>(rows == 1 ? std::min<std::int64_t>(400, (800 << 20) / layer_bytes + 1) : 1);
  KvCache cache(std::vector(layers, kv), Dtype::bf16, depth + rows);
  cache.reserve(depth + rows);
  cache.advance(depth);
  const std::vector<float> q(static_cast<std::size_t>(rows * shape.heads * shape.qk_dim), 0.1f);
  const std::vector<float> new_rows(static_cast<std::size_t>((depth + rows) * shape.kv_heads * shape.qk_dim), 0.3f);
  std::vector<float> out(static_cast<std::size_t>(rows * shape.heads * shape.v_dim));
  std::vector<GqaAttention> ops;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    cache.write(static_cast<int>(layer), 0, depth, new_rows.data(), new_rows.data());
    ops.emplace_back(GqaAttentionOptions{
        .kv_layer = static_cast<int>(layer), .heads = shape.heads, .kv = kv, .max_context = depth + rows});
  }
  Buffer scratch(ops[0].scratch_bytes(rows, parallel.threads()), "scratch");
  Batch batch;
  batch.runs = {{&cache, 0, rows}};
  const std::byte* const inputs[] = {reinterpret_cast<const std::byte*>(q.data()),
                                     reinterpret_cast<const std::byte*>(new_rows.data()),
                                     reinterpret_cast<const std::byte*>(new_rows.data())};
  std::byte* const outputs[] = {reinterpret_cast<std::byte*>(out.data())};
  std::size_t layer = 0;
  for (auto _ : state)
    ops[layer++ % layers].run({.batch = batch,
                               .parallel = parallel,
                               .rows = rows,
                               .inputs = inputs,
                               .outputs = outputs,
                               .scratch = {scratch.data(), scratch.bytes()}});
  double pairs = 0;  // of a row with a key it sees
  for (std::int64_t row = depth + 1; row <= depth + rows; ++row)
    pairs += static_cast<double>(shape.window > 0 ? std::min(shape.window, row) : row);
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  };
  state.counters["flops"] = rate(2 * pairs * static_cast<double>(shape.heads * (shape.qk_dim + shape.v_dim)));
  if (rows <= 8) state.counters["bytes"] = rate(static_cast<double>(layer_bytes));
}

void decode(benchmark::internal::Benchmark* bench) {
  bench->Args({1, 4096, 1})->Args({1, 32768, 1})->Args({1, 32768, 2})->Args({4, 32768, 1});
}
void prefill(benchmark::internal::Benchmark* bench) {
  bench->Args({512, 0, 1})->Args({512, 0, 2})->Args({512, 4096, 1});
}
#define MILLRACE_BENCH(shape, ranges) \
  BENCHMARK_CAPTURE(gqa_attention, shape, shape)->Apply(ranges)->UseRealTime()->Unit(benchmark::kMicrosecond)
MILLRACE_BENCH(mimo_full, decode);
MILLRACE_BENCH(reduced_full, decode);
MILLRACE_BENCH(minimax, decode);
MILLRACE_BENCH(mimo_window, decode);
MILLRACE_BENCH(mimo_full, prefill);
MILLRACE_BENCH(mimo_window, prefill);
MILLRACE_BENCH(reduced_window, prefill);
MILLRACE_BENCH(minimax, prefill);

}  // namespace
}  // namespace millrace
