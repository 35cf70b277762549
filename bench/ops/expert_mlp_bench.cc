#include "ops/expert_mlp.h"

#include <benchmark/benchmark.h>

#include <algorithm>

#include <vector>

#include "runtime/buffer.h"

namespace millrace {
namespace {

// Every expert is the same FP8 matrix at another place of one large buffer.
class Experts final : public ExpertSource {
 public:
  Experts(std::int64_t count, std::int64_t hidden, std::int64_t width)
      : hidden_(hidden),
        width_(width),
        memory_(static_cast<std::size_t>(3 * count * hidden * width), "experts"),
        scales_(static_cast<std::size_t>(hidden / 128 * (width / 128)), 1e-3f),
        small_codes_(static_cast<std::size_t>(std::max(hidden * (width / 128 + 7), width * (hidden / 128 + 7)) / 8)) {
    for (std::size_t i = 0; i < memory_.bytes(); ++i) memory_.data()[i] = static_cast<std::byte>(0x30 + i % 16);
  }
  std::uint64_t expert_bytes(int) const override { return static_cast<std::uint64_t>(3 * hidden_ * width_); }
  ExpertLease acquire(int layer, int expert) override {
    return ExpertLease(*this, layer, expert,
                       {matrix(3 * expert, width_, hidden_), matrix(3 * expert + 1, width_, hidden_),
                        matrix(3 * expert + 2, hidden_, width_)});
  }

 private:
  Tensor matrix(std::int64_t index, std::int64_t outputs, std::int64_t inputs) const {
    const std::int64_t shape[] = {outputs, inputs};
    return Tensor(Dtype::f8_e4m3, shape, memory_.data() + index * hidden_ * width_,
                  {scales_.data(), inputs / 128, outputs, 0, small_codes_.data()});
  }
  std::int64_t hidden_, width_;
  Buffer memory_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> small_codes_;  // of any of the matrices: none
};

// The experts of mimo-reduced, in FP8. Ranges: rows, threads, whether all rows want the same experts: then these have
// `rows` rows each and come from memory, others the next time. Otherwise every expert gets as many rows.
void expert_mlp(benchmark::State& state) {
  constexpr std::int64_t hidden = 2048, width = 1024, top_k = 8, experts = 64;
  const std::int64_t rows = state.range(0);
  const bool same = state.range(2) != 0;
  const Parallel parallel(static_cast<int>(state.range(1)));
  Experts source(experts, hidden, width);
  const ExpertMlp op(0, source, {.hidden = hidden, .width = width, .top_k = top_k, .experts = experts});
  const std::vector<float> x(static_cast<std::size_t>(rows * hidden), 0.5f),
      weights(static_cast<std::size_t>(rows * top_k), 0.125f);
  std::vector<float> y(x.size());
  std::vector<std::int32_t> ids(weights.size());
  Buffer scratch(op.scratch_bytes(rows, parallel.threads()), "scratch");
  const Batch batch;
  const std::byte* const inputs[] = {reinterpret_cast<const std::byte*>(x.data()),
                                     reinterpret_cast<const std::byte*>(ids.data()),
                                     reinterpret_cast<const std::byte*>(weights.data())};
  std::byte* const outputs[] = {reinterpret_cast<std::byte*>(y.data())};
  const StepContext context{.batch = batch,
                            .parallel = parallel,
                            .rows = rows,
                            .inputs = inputs,
                            .outputs = outputs,
                            .scratch = {scratch.data(), scratch.bytes()}};
  std::int64_t turn = 0;
  for (auto _ : state) {
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t k = 0; k < top_k; ++k)
        ids[static_cast<std::size_t>(row * top_k + k)] =
            static_cast<std::int32_t>((turn + (same ? 0 : row)) % (experts / top_k) + k * (experts / top_k));
    ++turn;
    op.run(context);
    benchmark::DoNotOptimize(y.data());
  }
  const Cost cost = op.cost(context);
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  };
  state.counters["weight_bytes"] = rate(cost.weight_bytes);
  state.counters["flops"] = rate(cost.flops);
}
BENCHMARK(expert_mlp)
    ->ArgsProduct({{1, 2, 4, 8, 16}, {1, 2}, {1}})
    ->ArgsProduct({{64, 512}, {1, 2}, {0}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace millrace
