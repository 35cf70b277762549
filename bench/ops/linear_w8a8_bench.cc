#include "ops/linear_w8a8.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "runtime/buffer.h"
#include "runtime/float_mode.h"

namespace millrace {
namespace {

// One thread; enough copies of the weight that a single row streams it from memory.
void linear_w8a8(benchmark::State& state) {
  const FloatMode mode;
  const std::int64_t rows = state.range(0), outputs = state.range(1), inputs = state.range(2);
  const std::int64_t copies = rows == 1 ? 16 : 1, weight_bytes = outputs * inputs;
  Buffer memory(static_cast<std::size_t>(copies * weight_bytes), "weights");
  for (std::size_t i = 0; i < memory.bytes(); ++i) memory.data()[i] = static_cast<std::byte>(0x30 + i % 16);
  const std::vector<float> scales(static_cast<std::size_t>((outputs / 128 + 1) * (inputs / 128 + 1)), 1e-3f);
  std::vector<float> x(static_cast<std::size_t>(rows * inputs), 0.5f), y(static_cast<std::size_t>(rows * outputs));
  std::vector<QuantizedGroup> quantized(static_cast<std::size_t>(rows * quantized_groups(inputs)));
  Buffer scratch(linear_scratch_bytes(inputs), "scratch");
  std::int64_t next = 0;
  for (auto _ : state) {
    quantize_rows_kernel.best()(x.data(), rows, inputs, ActivationScale::f32, quantized.data());
    linear_w8a8_kernel.best()({.weight = {.data = memory.data() + next++ % copies * weight_bytes,
                                          .scales = scales.data(),
                                          .format = LinearFormat::f8_e4m3,
                                          .outputs = outputs,
                                          .inputs = inputs,
                                          .scale_columns = (inputs + 127) / 128,
                                          .segment_rows = outputs,
                                          .skipped_rows = 0},
                               .x = quantized.data(),
                               .x_rows = nullptr,
                               .rows = rows,
                               .y = y.data(),
                               .y_stride = outputs,
                               .begin = 0,
                               .end = outputs,
                               .scratch = scratch.data()});
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * weight_bytes);
  state.counters["flops"] = benchmark::Counter(static_cast<double>(2 * rows * outputs * inputs * state.iterations()),
                                               benchmark::Counter::kIsRate);
}
BENCHMARK(linear_w8a8)->Args({1, 4096, 4096})->Args({4, 4096, 4096})->Args({64, 4096, 4096});

}  // namespace
}  // namespace millrace
