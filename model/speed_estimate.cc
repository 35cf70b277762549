#include "model/speed_estimate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/config.h"
#include "runtime/kv_cache.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

// What the kernels reach of the machine's rates, by measurement (bench/).
constexpr double disk_efficiency = 0.92, memory_efficiency = 0.8, compute_efficiency = 0.55;

constexpr std::int64_t least_chunk = 512, most_chunk = 8192, chunk_step = 256;
constexpr std::int64_t planned_prompt = 2048, short_context = 256;

// Of a pass of `rows` rows after `held` others, of which the last wants logits.
Cost cost_of(const Program& program, std::int64_t rows, std::int64_t held) {
  const Parallel parallel(1);
  KvCache cache(program.kv_layers(), Dtype::bf16, held + rows);  // without memory: only its length counts
  cache.advance(held);
  Batch batch;
  batch.tokens.resize(static_cast<std::size_t>(rows));
  batch.positions.resize(static_cast<std::size_t>(rows));
  batch.runs.push_back({.cache = &cache, .begin = 0, .end = rows});
  batch.logits_rows.push_back(static_cast<std::int32_t>(rows - 1));
  Cost sum;
  for (const Step& step : program.steps()) {
    const bool of_logits = program.value(step.outputs[0]).row_space == RowSpace::logits;
    sum += step.op->cost({.batch = batch,
                          .parallel = parallel,
                          .rows = of_logits ? 1 : rows,
                          .inputs = {},
                          .outputs = {},
                          .scratch = {}});
  }
  return sum;
}

// Bytes that come from memory: activations stay in the processor's caches.
double memory_bytes(const Cost& cost) {
  return cost.weight_bytes + cost.cache_bytes;
}

// The share of a layer's experts that `rows` rows ask for, if they choose evenly.
double touched_share(const ModelConfig& config, double rows) {
  const auto experts = static_cast<double>(config.router.experts), top_k = static_cast<double>(config.router.top_k);
  return experts > 0 ? 1 - std::pow(1 - top_k / experts, rows) : 0;
}

}  // namespace

const char* name_of(Resource resource) noexcept {
  return resource == Resource::disk ? "disk" : resource == Resource::memory ? "memory" : "compute";
}

Resource ResourceTimes::limit() const noexcept {
  if (disk >= memory && disk >= compute) return Resource::disk;
  return memory >= compute ? Resource::memory : Resource::compute;
}

double ResourceTimes::seconds() const noexcept {
  return std::max({disk, memory, compute, 1e-9});
}

double expected_hit_rate(double share) noexcept {
  return share >= 1 ? 1 : std::pow(std::max(share, 0.0), 0.7);
}

SpeedEstimate estimate_speed(const Program& program, const ModelConfig& config, const MemoryPlan& plan,
                             const MachineRates& rates, std::optional<double> hit_rate) {
  SpeedEstimate estimate;
  const double share = plan.experts.share(), file_bytes = static_cast<double>(plan.experts.file_bytes);
  estimate.hit_rate = share >= 1 ? 1 : hit_rate.value_or(expected_hit_rate(share));
  const Cost one = cost_of(program, 1, short_context);
  estimate.expert_bytes = file_bytes * touched_share(config, 1);
  estimate.decode_read_bytes = estimate.expert_bytes * (1 - estimate.hit_rate);
  estimate.decode = {.disk = estimate.decode_read_bytes / (rates.disk * disk_efficiency),
                     .memory = memory_bytes(one) / (rates.memory * memory_efficiency),
                     .compute = one.flops / (rates.compute * compute_efficiency)};

  const std::int64_t prompt = std::min(planned_prompt, plan.context), chunk = std::min(plan.chunk, prompt);
  const auto tokens = static_cast<double>(prompt), passes = std::ceil(tokens / static_cast<double>(chunk));
  const Cost pass = cost_of(program, chunk, (prompt - chunk) / 2);
  estimate.prompt_tokens = prompt;
  estimate.prefill_read_bytes = passes * file_bytes * touched_share(config, static_cast<double>(chunk)) * (1 - share);
  estimate.prefill = {.disk = estimate.prefill_read_bytes / (rates.disk * disk_efficiency) / tokens,
                      .memory = passes * memory_bytes(pass) / (rates.memory * memory_efficiency) / tokens,
                      .compute = passes * pass.flops / (rates.compute * compute_efficiency) / tokens};
  return estimate;
}

std::int64_t break_even_chunk(const Program& program, const ModelConfig& config, double read_bytes,
                              const MachineRates& rates) {
  if (read_bytes <= 0 || config.router.experts == 0) return least_chunk;
  const double per_row = cost_of(program, least_chunk, least_chunk).flops / static_cast<double>(least_chunk) /
                         (rates.compute * compute_efficiency);
  const double rows = read_bytes / (rates.disk * disk_efficiency) / per_row;
  const auto chunk = static_cast<std::int64_t>(std::min(rows, static_cast<double>(most_chunk)));
  return std::clamp((chunk + chunk_step - 1) / chunk_step * chunk_step, least_chunk, most_chunk);
}

}  // namespace millrace
