#include "ops/linear.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "runtime/buffer.h"

namespace millrace {
namespace {

// A view of random bytes; U8 means MXFP4.
Tensor weight_of(Dtype dtype, std::int64_t outputs, std::int64_t inputs, const std::byte* data,
                 const std::vector<float>& scales, const std::vector<std::uint8_t>& exponents) {
  if (dtype == Dtype::u8) return Tensor::mxfp4(outputs, inputs, data, exponents.data());
  const std::int64_t shape[] = {outputs, inputs};
  BlockScales blocks;
  if (dtype == Dtype::f8_e4m3) blocks = {scales.data(), (inputs + 127) / 128, outputs};
  return Tensor(dtype, shape, data, blocks);
}

// One thread; enough copies of the weight that a single row streams it from memory.
void linear(benchmark::State& state, Dtype dtype) {
  const std::int64_t rows = state.range(0), outputs = state.range(1), inputs = state.range(2);
  const std::int64_t copies = rows == 1 ? 16 : 1;
  const std::int64_t weight_bytes = outputs * inputs * size_of(dtype) / (dtype == Dtype::u8 ? 2 : 1);
  Buffer memory(static_cast<std::size_t>(copies * weight_bytes), "weights");
  for (std::size_t i = 0; i < memory.bytes(); ++i) memory.data()[i] = static_cast<std::byte>(0x30 + i % 16);
  const std::vector<float> scales(static_cast<std::size_t>((outputs / 128 + 1) * (inputs / 128 + 1)), 1e-3f);
  const std::vector<std::uint8_t> exponents(static_cast<std::size_t>(outputs * inputs / 32), 120);
  std::vector<float> x(static_cast<std::size_t>(rows * inputs), 0.5f), y(static_cast<std::size_t>(rows * outputs));
  std::vector<Linear> linears;
  for (std::int64_t copy = 0; copy < copies; ++copy)
    linears.emplace_back(weight_of(dtype, outputs, inputs, memory.data() + copy * weight_bytes, scales, exponents),
                         LinearOptions{});
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
BENCHMARK_CAPTURE(linear, mxfp4, Dtype::u8)->Args({1, 4096, 4096})->Args({4, 4096, 4096})->Args({64, 4096, 4096});
BENCHMARK_CAPTURE(linear, bf16, Dtype::bf16)->Args({1, 4096, 4096})->Args({4, 4096, 4096})->Args({64, 4096, 4096});

}  // namespace
}  // namespace millrace
