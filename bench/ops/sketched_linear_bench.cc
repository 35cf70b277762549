#include "ops/sketched_linear.h"

#include <benchmark/benchmark.h>

#include <vector>

#include "runtime/buffer.h"

namespace millrace {
namespace {

// One thread; copies of the sketch, so that it comes from memory.
void bit_sums(benchmark::State& state) {
  const std::int64_t outputs = state.range(0), words = state.range(1) / 64, copies = 8;
  Buffer memory(static_cast<std::size_t>(copies * outputs * words) * sizeof(std::uint64_t), "bits");
  for (std::size_t i = 0; i < memory.bytes(); ++i) memory.data()[i] = static_cast<std::byte>(i * 37);
  Buffer q(static_cast<std::size_t>(64 * words), "q");
  std::vector<std::int32_t> sums(static_cast<std::size_t>(outputs));
  std::int64_t copy = 0;
  for (auto _ : state) {
    bit_sums_kernel.best()(reinterpret_cast<const std::uint64_t*>(memory.data()) + copy++ % copies * outputs * words,
                           words, reinterpret_cast<const std::int8_t*>(q.data()), 0, outputs, sums.data());
    benchmark::DoNotOptimize(sums.data());
  }
  state.SetBytesProcessed(state.iterations() * outputs * words * 8);
  state.counters["flops"] =
      benchmark::Counter(static_cast<double>(128 * words * outputs * state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(bit_sums)->Args({512, 2048})->Args({32768, 2048})->Args({151680, 4096});

}  // namespace
}  // namespace millrace
