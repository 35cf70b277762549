#include "ops/linear.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "runtime/buffer.h"

namespace millrace {
namespace {

// One thread; enough copies of the weight that a single row streams it from memory.
void linear(benchmark::State& state, Dtype dtype) {
  const std::int64_t rows = state.range(0), outputs = state.range(1), inputs = state.range(2);
  const std::int64_t copies = rows == 1 ? 16 : 1, weight_bytes = outputs * inputs * size_of(dtype);
  Buffer memory(static_cast<std::size_t>(copies * weight_bytes), "weights");
  for (std::size_t i = 0; i < memory.bytes(); ++i) memory.data()[i] = static_cast<std::byte>(0x30 + i % 16);
  const std::vector<float> scales(static_cast<std::size_t>((outputs / 128 + 1) * (inputs / 128 + 1)), 1e-3f);
  std::vector<float> x(static_cast<std::size_t>(rows * inputs), 0.5f), y(static_cast<std::size_t>(rows * outputs));
  const std::int64_t shape[] = {outputs, inputs};
  BlockScales blocks;
  if (dtype == Dtype::f8_e4m3) blocks = {scales.data(), (inputs + 127) / 128, outputs};
  std::vector<Linear> linears;
  for (std::int64_t copy = 0; copy < copies; ++copy)
    linears.emplace_back(Tensor(dtype, shape, memory.data() + copy * weight_bytes, blocks), LinearOptions{});
  Buffer scratch(linears[0].scratch_bytes(rows, 1), "scratch");
  const Batch batch;
  const Parallel parallel(1);
  const std::byte* const inputs_of[] = {reinterpret_cast<const std::byte*>(x.data())};
  std::byte* const outputs_of[] = {reinterpret_cast<std::byte*>(y.data())};
  std::size_t next = 0;
  for (auto _ : state) {
    linears[next++ % linears.size()].run({.batch = batch,
                                          .parallel = parallel,
                                          .rows = rows,
                                          .inputs = inputs_of,
                                          .outputs = outputs_of,
                                          .scratch = {scratch.data(), scratch.bytes()}});
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * weight_bytes);
  state.counters["flops"] = benchmark::Counter(static_cast<double>(2 * rows * outputs * inputs * state.iterations()),
                                               benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(linear, fp8, Dtype::f8_e4m3)->Args({1, 4096, 4096})->Args({4, 4096, 4096})->Args({64, 4096, 4096});
BENCHMARK_CAPTURE(linear, bf16, Dtype::bf16)->Args({1, 4096, 4096})->Args({4, 4096, 4096})->Args({64, 4096, 4096});

}  // namespace
}  // namespace millrace
