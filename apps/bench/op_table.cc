#include "apps/bench/op_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <set>

#include "apps/bench/report.h"
#include "loader/checkpoint.h"
#include "ops/ceilings.h"
#include "ops/expert_mlp.h"
#include "ops/gqa_attention.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "runtime/clock.h"
#include "runtime/error.h"
#include "runtime/machine.h"

namespace millrace {
namespace {

// More than caches hold, or what a budget allows.
constexpr std::uint64_t most_pool = std::uint64_t{1} << 30, least_pool = most_pool / 16;
constexpr double least_seconds = 2e-3;  // of one measurement

// Memory that weights are cut out of, each time another part of it: bytes that are ordinary FP8 codes and, in pairs,
// ordinary bf16 numbers.
class WeightPool {
 public:
  // With room for a bf16 matrix of `largest` elements at least.
  WeightPool(std::size_t room, std::int64_t largest)
      : memory_(std::max(room, static_cast<std::size_t>(2 * largest)), "made-up weights"),
        scales_(memory_.bytes() / (128 * 16), 1e-2f) {
    std::mt19937_64 generator(1);
    for (std::size_t i = 0; i < memory_.bytes(); i += 8) {
      const std::uint64_t bytes = (generator() & 0x9f9f9f9f9f9f9f9f) | 0x2020202020202020;
      std::memcpy(memory_.data() + i, &bytes, sizeof bytes);
    }
  }

  // How many weights of that many bytes there are.
  std::size_t copies(std::size_t bytes) const { return std::max<std::size_t>(1, memory_.bytes() / bytes); }

  Tensor matrix(Dtype dtype, std::int64_t outputs, std::int64_t inputs, std::size_t copy) {
    const std::int64_t shape[] = {outputs, inputs};
    const auto bytes = static_cast<std::size_t>(outputs * inputs * size_of(dtype));
    const std::byte* data = memory_.data() + copy % copies(bytes) * bytes;
    if (dtype != Dtype::f8_e4m3) return Tensor(dtype, shape, data);
    return Tensor(dtype, shape, data,
                  {.data = scales_.data(), .columns = (inputs + 127) / 128, .segment_rows = outputs});
  }

 private:
  Buffer memory_;
  std::vector<float> scales_;
};

class PoolExperts final : public ExpertSource {
 public:
  PoolExperts(WeightPool& pool, std::int64_t hidden, std::int64_t width)
      : pool_(pool), hidden_(hidden), width_(width) {}
  std::uint64_t expert_bytes(int) const override { return static_cast<std::uint64_t>(3 * hidden_ * width_); }
  ExpertLease acquire(int layer, int expert) override {
    const auto first = static_cast<std::size_t>(3 * expert);
    return ExpertLease(
        *this, layer, expert,
        {pool_.matrix(Dtype::f8_e4m3, width_, hidden_, first), pool_.matrix(Dtype::f8_e4m3, width_, hidden_, first + 1),
         pool_.matrix(Dtype::f8_e4m3, hidden_, width_, first + 2)});
  }

 private:
  WeightPool& pool_;
  std::int64_t hidden_, width_;
};

// An operator and what it works on, which takes memory only while it is measured; one of several that differ in their
// weights runs at a time.
struct OpRun {
  struct Input {
    std::int64_t values = 0;
    float value = 0;                // all of them
    std::vector<std::int32_t> ids;  // or these
  };
  std::string title;
  std::int64_t rows = 0;
  std::vector<std::unique_ptr<Op>> ops;
  std::vector<Input> inputs;
  std::int64_t output_values = 0;
  Batch batch;
  std::unique_ptr<KvCache> cache;
  std::size_t next = 0;
  Cost cost;
  Series seconds;

  void add_input(std::int64_t values, float value) { inputs.push_back({.values = values, .value = value, .ids = {}}); }

  // Of what measuring takes.
  std::uint64_t bytes(int threads) const {
    std::int64_t values = output_values;
    for (const Input& input : inputs) values += input.values;
    return static_cast<std::uint64_t>(values) * sizeof(float) + ops[0]->scratch_bytes(rows, threads);
  }

  // Seconds of a call, the mean of as many as take a while.
  double measure(const Parallel& parallel) {
    std::vector<std::vector<float>> filled;
    std::vector<const std::byte*> in;
    for (const Input& input : inputs) {
      filled.emplace_back(static_cast<std::size_t>(input.values), input.value);
      in.push_back(std::as_bytes(std::span(filled.back())).data());
      if (!input.ids.empty()) in.back() = std::as_bytes(std::span(input.ids)).data();
    }
    std::vector<float> output(static_cast<std::size_t>(output_values));
    std::byte* const out[] = {std::as_writable_bytes(std::span(output)).data()};
    Buffer scratch(ops[0]->scratch_bytes(rows, parallel.threads()), "scratch");
    const StepContext context{.batch = batch,
                              .parallel = parallel,
                              .rows = rows,
                              .inputs = in,
                              .outputs = out,
                              .scratch = {scratch.data(), scratch.bytes()}};
    cost = ops[0]->cost(context);
    ops[next++ % ops.size()]->run(context);
    int calls = 0;
    double elapsed = 0;
    const Clock::time_point start = Clock::now();
    for (; elapsed < least_seconds; ++calls) {
      ops[next++ % ops.size()]->run(context);
      elapsed = seconds_since(start);
    }
    return elapsed / calls;
  }
};

using OpRuns = std::vector<OpRun>;

using Shapes = std::set<std::pair<std::int64_t, std::int64_t>>;  // outputs, inputs

Shapes linear_shapes(const ModelConfig& config) {
  Shapes shapes = {{config.vocab, config.hidden}};
  for (const LayerSpec& layer : config.layers) {
    shapes.insert({layer.heads * layer.qk_dim, config.hidden});
    shapes.insert({config.hidden, layer.heads * layer.v_dim});
    if (!layer.moe) shapes.insert({layer.width, config.hidden});
  }
  return shapes;
}

std::int64_t largest_of(const Shapes& shapes) {
  std::int64_t largest = 0;
  for (const auto& [outputs, inputs] : shapes) largest = std::max(largest, outputs * inputs);
  return largest;
}

void add_linears(OpRuns& runs, WeightPool& pool, const Shapes& shapes) {
  for (const auto& [outputs, inputs] : shapes)
    for (const Dtype dtype : {Dtype::f8_e4m3, Dtype::bf16})
      for (const std::int64_t rows : {1, 8, 512}) {
        OpRun& run = runs.emplace_back();
        run.title = fmt::format("linear {} {} x {}", dtype == Dtype::bf16 ? "bf16" : "fp8", outputs, inputs);
        run.rows = rows;
        const std::size_t copies = pool.copies(static_cast<std::size_t>(outputs * inputs * size_of(dtype)));
        for (std::size_t copy = 0; copy < copies; ++copy)
          run.ops.push_back(std::make_unique<Linear>(pool.matrix(dtype, outputs, inputs, copy), LinearOptions{}));
        run.add_input(rows * inputs, 0.5f);
        run.output_values = rows * outputs;
      }
}

void add_experts(OpRuns& runs, WeightPool& pool, const ModelConfig& config,
                 std::vector<std::unique_ptr<PoolExperts>>& sources) {
  const auto moe = std::find_if(config.layers.begin(), config.layers.end(), [](const LayerSpec& l) { return l.moe; });
  if (moe == config.layers.end()) return;
  const RouterSpec& router = config.router;
  sources.push_back(std::make_unique<PoolExperts>(pool, config.hidden, moe->width));
  for (const std::int64_t rows : {1, 8, 64, 512}) {
    OpRun& run = runs.emplace_back();
    run.title =
        fmt::format("expert_mlp fp8 {} x {}, {} of {}", moe->width, config.hidden, router.top_k, router.experts);
    run.rows = rows;
    run.ops.push_back(std::make_unique<ExpertMlp>(
        0, *sources.back(),
        ExpertMlpOptions{
            .hidden = config.hidden, .width = moe->width, .top_k = router.top_k, .experts = router.experts}));
    run.add_input(rows * config.hidden, 0.5f);
    std::vector<std::int32_t> all(static_cast<std::size_t>(router.experts)), ids;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    std::mt19937 generator(3);
    for (std::int64_t row = 0; row < rows; ++row)
      std::sample(all.begin(), all.end(), std::back_inserter(ids), router.top_k, generator);
    run.inputs.push_back({.values = 0, .value = 0, .ids = std::move(ids)});
    run.add_input(rows * router.top_k, 0.1f);
    run.output_values = rows * config.hidden;
  }
}

void add_attention(OpRuns& runs, const ModelConfig& config, const LayerSpec& layer, std::int64_t depth,
                   std::int64_t rows) {
  OpRun& run = runs.emplace_back();
  const LayerKvShape kv = {
      .kv_heads = layer.kv_heads, .qk_dim = layer.qk_dim, .v_dim = layer.v_dim, .window = layer.window};
  run.title = fmt::format("gqa_attention {}/{} heads, {}, depth {}", layer.heads, layer.kv_heads,
                          kv.window > 0 ? fmt::format("window {}", kv.window) : "full", depth);
  run.rows = rows;
  GqaAttentionOptions options = {.heads = layer.heads, .kv = kv, .max_context = config.max_positions};
  if (layer.sinks) options.sinks.assign(static_cast<std::size_t>(layer.heads), 0.0f);
  run.ops.push_back(std::make_unique<GqaAttention>(std::move(options)));
  run.cache = std::make_unique<KvCache>(std::span(&kv, 1), Dtype::bf16, config.max_positions);
  run.cache->reserve(depth + rows);
  const std::vector<float> keys(static_cast<std::size_t>(kv.kv_heads * kv.qk_dim), 0.1f);
  const std::vector<float> values(static_cast<std::size_t>(kv.kv_heads * kv.v_dim), 0.2f);
  for (std::int64_t row = 0; row < depth; ++row) run.cache->write(0, row, 1, keys.data(), values.data());
  run.cache->advance(depth);
  run.batch.tokens.resize(static_cast<std::size_t>(rows));
  run.batch.runs = {{.cache = run.cache.get(), .begin = 0, .end = rows}};
  run.add_input(rows * layer.heads * layer.qk_dim, 0.1f);
  run.add_input(rows * layer.kv_heads * layer.qk_dim, 0.1f);
  run.add_input(rows * layer.kv_heads * layer.v_dim, 0.1f);
  run.output_values = rows * layer.heads * layer.v_dim;
}

void add_norms(OpRuns& runs, const ModelConfig& config) {
  for (const std::int64_t rows : {1, 512}) {
    OpRun& run = runs.emplace_back();
    run.title = fmt::format("rms_norm {}", config.hidden);
    run.rows = rows;
    run.ops.push_back(std::make_unique<RmsNorm>(std::vector<float>(static_cast<std::size_t>(config.hidden), 1.0f),
                                                config.epsilon, Rounding::none));
    run.add_input(rows * config.hidden, 0.5f);
    run.output_values = run.inputs[0].values;
  }
}

OpRuns runs_of(const ModelConfig& config, std::int64_t context, WeightPool& pool,
               std::vector<std::unique_ptr<PoolExperts>>& sources) {
  OpRuns runs;
  add_linears(runs, pool, linear_shapes(config));
  add_experts(runs, pool, config, sources);
  for (const AttentionKind kind : {AttentionKind::full, AttentionKind::sliding}) {
    const auto layer = std::find_if(config.layers.begin(), config.layers.end(),
                                    [kind](const LayerSpec& l) { return l.attention == kind; });
    if (layer == config.layers.end()) continue;
    for (const std::int64_t depth : {4096, 32768})
      if (depth < context && (layer->window == 0 || depth == 4096)) add_attention(runs, config, *layer, depth, 1);
    add_attention(runs, config, *layer, 0, std::min<std::int64_t>(512, context));
  }
  add_norms(runs, config);
  return runs;
}

std::string table(const OpRuns& runs, int threads, double bandwidth, double flops) {
  std::string text = fmt::format(
      "\n{} thread{}: read {:.1f} GB/s, multiply {:.0f} GFLOP/s\n{:<52}{:>5}{:>12}{:>8}{:>10}{:>9}\n", threads,
      threads == 1 ? "" : "s", 1e-9 * bandwidth, 1e-9 * flops, "operator", "rows", "us", "GB/s", "GFLOP/s", "of best");
  for (const OpRun& run : runs) {
    const double seconds = run.seconds.median(), bytes = run.cost.weight_bytes + run.cost.cache_bytes;
    text += fmt::format("{:<52}{:>5}{:>12.1f}{:>8.1f}{:>10.1f}{:>9.2f}\n", run.title, run.rows, 1e6 * seconds,
                        1e-9 * bytes / seconds, 1e-9 * run.cost.flops / seconds,
                        std::max(bytes / bandwidth, run.cost.flops / flops) / seconds);
  }
  return text;
}

// Before measuring, for which `read` more bytes are needed beside what the operators work on.
void check_memory(std::uint64_t budget, std::uint64_t read, const OpRuns& runs, int threads) {
  std::uint64_t most = 0;
  for (const OpRun& run : runs) most = std::max(most, run.bytes(threads));
  const std::uint64_t needed = resident_memory() + read + most;
  require(needed <= budget, Errc::out_of_memory, "{} MiB of memory are too little to measure operators, {} are needed",
          budget >> 20, (needed >> 20) + 1);
}

}  // namespace

std::string op_table(const std::filesystem::path& model, const EngineOptions& options, const std::vector<int>& threads,
                     int rounds) {
  EngineOptions headers = options;
  headers.headers_only = true;
  const std::unique_ptr<Engine> engine = Engine::open(model, headers);
  const std::uint64_t budget = engine->plan().budget, bytes = std::clamp(budget / 8, least_pool, most_pool);
  WeightPool pool(static_cast<std::size_t>(bytes), largest_of(linear_shapes(engine->config())));
  std::vector<std::unique_ptr<PoolExperts>> sources;
  OpRuns runs = runs_of(engine->config(), engine->context(), pool, sources);
  check_memory(budget, bytes, runs, *std::max_element(threads.begin(), threads.end()));
  const ReadCeiling memory(static_cast<std::size_t>(bytes));
  std::string text = fmt::format("{}, tier {}\n", processor_name(), name_of(active_isa()));
  for (int count : threads) {
    const Parallel parallel(count);
    Series bandwidth, flops;
    for (OpRun& run : runs) run.seconds.values.clear();
    for (int round = 0; round < rounds; ++round) {
      bandwidth.values.push_back(memory.measure(parallel));
      double peak = 0;
      for (const MultiplyPeak& instruction : multiply_peaks())
        peak = std::max(peak, measure_peak(instruction, parallel, 0.02));
      flops.values.push_back(peak);
      for (OpRun& run : runs) run.seconds.values.push_back(run.measure(parallel));
    }
    text += table(runs, count, bandwidth.median(), flops.median());
  }
  return text;
}

}  // namespace millrace
