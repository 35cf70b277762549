#include "model/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "loader/weight_store.h"
#include "model/drafter.h"
#include "model/programs.h"
#include "model/speed_estimate.h"
#include "runtime/error.h"
#include "runtime/kv_cache.h"
#include "runtime/workspace.h"

namespace millrace {
namespace {

constexpr std::uint64_t mebi = std::uint64_t{1} << 20, gibi = std::uint64_t{1} << 30;
constexpr std::int64_t logits_at_once = 64;  // rows: 39 MB of a vocabulary of 150,000
constexpr std::int64_t context_step = 1024, default_chunk = 512, ordinary_prompt = 2048, rows_per_expert = 64;

// What a process takes beyond what it has when its headers are read: stacks, lists, buffers of the C library.
constexpr std::uint64_t process_growth = 8 * mebi, growth_per_thread = mebi / 2;

// Bytes of a sampler's lists and of its copy that guesses, for each word of the vocabulary.
constexpr std::uint64_t sampling_bytes = 48;

std::uint64_t saturated_product(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX / 4 : std::min(product, UINT64_MAX / 4);
}

MemoryPlan::Weights weights_by_kind(const WeightStore& store) {
  MemoryPlan::Weights weights;
  for (const auto& [name, bytes] : store.footprints()) {
    const auto has = [name = std::string_view(name)](std::string_view part) { return name.find(part) != name.npos; };
    if (name.starts_with("mtp."))
      weights.mtp += bytes;
    else if (has("embed_tokens"))
      weights.embedding += bytes;
    else if (has("lm_head"))
      weights.head += bytes;
    else if (has("norm") || has(".mlp.gate."))
      weights.routers_and_norms += bytes;
    else if (has(".self_attn."))
      weights.attention += bytes;
    else
      weights.dense_mlp += bytes;
  }
  return weights;
}

// Plans in steps: what must be there, the context, the chunk, and last the experts.
class Planner {
 public:
  explicit Planner(const PlanInputs& inputs) : in_(inputs) {}

  MemoryPlan plan() {
    plan_.budget = in_.memory > 0 ? in_.memory : free_memory();
    plan_.process = resident_memory() + process_growth + growth_per_thread * static_cast<std::uint64_t>(in_.threads);
    plan_.aside = in_.aside;
    plan_.weights = weights_by_kind(in_.weights);
    plan_.loading = std::max(in_.weights.loading_bytes(), in_.loading_experts);
    plan_.dequantized =
        in_.weights.options().format == WeightFormat::bf16 && in_.weights.checkpoint().holds(Dtype::f8_e4m3);
    plan_.experts = in_.experts;
    plan_.sessions = in_.sessions;
    plan_.chunk = in_.chunk > 0 ? in_.chunk : default_chunk;
    set_context(in_.context > 0 ? in_.context : in_.config.max_positions);
    if (in_.context == 0 && !all_fits()) choose_context();
    plan_.experts.resident = all_fits();
    if (!plan_.experts.resident) plan_.loading = in_.weights.loading_bytes();
    if (in_.chunk == 0) plan_.experts.resident ? choose_chunk_in_memory() : choose_chunk_from_disk();
    if (!plan_.experts.resident)
      plan_.experts.cache_bytes =
          std::min(plan_.experts.resident_bytes, plan_.budget - std::min(plan_.budget, plan_.other()));
    return plan_;
  }

 private:
  bool all_fits() const noexcept {
    return plan_.other() <= plan_.budget && plan_.experts.resident_bytes <= plan_.budget - plan_.other();
  }

  void set_context(std::int64_t context) {
    plan_.context = context;
    std::vector<LayerKvShape> full, rings;
    for (const LayerKvShape& shape : in_.programs.main.kv_layers()) (shape.window > 0 ? rings : full).push_back(shape);
    const std::int64_t page = KvCache::page_rows;
    plan_.kv_per_token = KvCache::bytes_for(full, in_.kv_dtype, page) / static_cast<std::uint64_t>(page);
    plan_.kv_fixed = 2 * KvCache::bytes_for(rings, in_.kv_dtype, context) + KvCache::bytes_for(full, in_.kv_dtype, 1);
    const auto vocab = static_cast<std::uint64_t>(in_.config.vocab), layers = in_.programs.mtp.size();
    plan_.session_work = vocab * (sampling_bytes + sizeof(float) * (1 + layers));
    if (layers > 0)
      plan_.session_work +=
          Drafter::bytes_for(in_.programs.drafts, in_.config, in_.mtp_wiring, in_.kv_dtype, context, in_.threads);
    set_chunk(plan_.chunk);
  }

  void set_chunk(std::int64_t chunk) {
    plan_.chunk = chunk;
    plan_.workspace = Buffer::footprint(Workspace::bytes_for(
        in_.programs.main, pass_limits(chunk, plan_.context, in_.programs.mtp.size(), in_.threads)));
  }

  // `chunk` or, while that is too long, half of it and so on, but not less than default_chunk.
  template <class TooLong>
  void set_longest_chunk(std::int64_t chunk, TooLong&& too_long) {
    for (set_chunk(chunk); chunk > default_chunk && too_long(); set_chunk(chunk))
      chunk = std::max(default_chunk, chunk / 2);
  }

  // Full sessions take at most a quarter of what they share with the experts.
  void choose_context() {
    const std::uint64_t others = plan_.process + plan_.aside + plan_.weights.total() + plan_.working() - plan_.kv();
    const std::uint64_t shared = plan_.budget - std::min(plan_.budget, others);
    const std::uint64_t per_session = shared / 4 / static_cast<std::uint64_t>(plan_.sessions);
    const std::uint64_t tokens = plan_.kv_per_token > 0
                                     ? (per_session - std::min(per_session, plan_.kv_fixed)) / plan_.kv_per_token
                                     : UINT64_MAX / 4;
    const auto whole_steps = static_cast<std::int64_t>(std::min(tokens, UINT64_MAX / 4)) / context_step * context_step;
    set_context(std::clamp(whole_steps, std::min(context_step, in_.config.max_positions), in_.config.max_positions));
  }

  // Where all experts are in memory, so many tokens share a pass that each of its experts has about enough of them to
  // make decoding its weights cheap, as far as the experts stay there.
  void choose_chunk_in_memory() {
    const RouterSpec& router = in_.config.router;
    if (router.experts == 0) return;
    set_longest_chunk(std::clamp(rows_per_expert * router.experts / router.top_k, default_chunk, ordinary_prompt),
                      [this] { return !all_fits(); });
  }

  // Where experts are read for a prompt, as many tokens share a pass as make computing take as long, and so many that
  // an ordinary prompt has every expert read once; working memory for them takes at most a quarter of what it shares
  // with the cache.
  void choose_chunk_from_disk() {
    const std::uint64_t left = plan_.budget - std::min(plan_.budget, plan_.other());
    const double share =
        plan_.experts.resident_bytes > 0
            ? std::min(1.0, static_cast<double>(left) / static_cast<double>(plan_.experts.resident_bytes))
            : 1;
    const double read = static_cast<double>(plan_.experts.file_bytes) * (1 - share);
    set_longest_chunk(std::max(ordinary_prompt, break_even_chunk(in_.programs.main, in_.config, read, in_.rates)),
                      [this, left] { return plan_.workspace > left / 4; });
  }

  const PlanInputs& in_;
  MemoryPlan plan_;
};

std::string size_text(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes >= gibi ? fmt::format("{:.2f} GiB", value / static_cast<double>(gibi))
                       : fmt::format("{:.1f} MiB", value / static_cast<double>(mebi));
}

}  // namespace

std::int64_t MemoryPlan::Experts::slots() const noexcept {
  if (resident) return count;
  return slot_bytes > 0 ? std::min(count, static_cast<std::int64_t>(cache_bytes / slot_bytes)) : 0;
}

double MemoryPlan::Experts::share() const noexcept {
  return count > 0 ? static_cast<double>(slots()) / static_cast<double>(count) : 1;
}

std::uint64_t MemoryPlan::kv() const noexcept {
  return saturated_product(static_cast<std::uint64_t>(sessions),
                           kv_fixed + saturated_product(kv_per_token, static_cast<std::uint64_t>(context)));
}

std::uint64_t MemoryPlan::working() const noexcept {
  return kv() + saturated_product(session_work, static_cast<std::uint64_t>(sessions)) + workspace;
}

std::uint64_t MemoryPlan::other() const noexcept {
  return process + aside + weights.total() + std::max(loading, working());
}

std::uint64_t MemoryPlan::total() const noexcept {
  return other() + (experts.resident ? experts.resident_bytes : experts.cache_bytes);
}

std::uint64_t MemoryPlan::least() const noexcept {
  return other() +
         std::min(experts.resident_bytes, experts.slot_bytes * static_cast<std::uint64_t>(experts.least_slots));
}

void MemoryPlan::check(const std::string& model) const {
  if (fits()) return;
  fail(Errc::out_of_memory,
       "{}: {} of memory are too little, at least {} are needed: {} for weights that every token uses, {} for {} "
       "session{} of {} tokens, {} for the pass of {}, {} for the program{}; a smaller --ctx{}{} would help",
       model, size_text(budget), size_text(least()), size_text(weights.total()), size_text(kv()), sessions,
       sessions == 1 ? "" : "s", context, size_text(workspace), chunk, size_text(process),
       aside > 0 ? fmt::format(", {} for what was asked of it beside", size_text(aside)) : "",
       dequantized ? ", --weights fp8" : "", weights.mtp > 0 ? ", --mtp off" : "");
}

void MemoryPlan::check_pass(std::int64_t rows, std::uint64_t bytes) const {
  const std::uint64_t spare = budget - std::min(budget, total());
  require(bytes <= workspace || bytes - workspace <= spare, Errc::out_of_memory,
          "{} rows in one pass take {}, but {} are planned for passes of {}, and {} of memory are left: open the model "
          "for passes of {} rows (--chunk)",
          rows, size_text(bytes), size_text(workspace), chunk, size_text(spare), rows);
}

WorkspaceLimits pass_limits(std::int64_t chunk, std::int64_t context, std::size_t mtp_layers, int threads) noexcept {
  const std::int64_t rows = std::min(chunk, context);
  return {.rows = rows,
          .logits_rows = std::max(static_cast<std::int64_t>(1 + mtp_layers), std::min(rows, logits_at_once)),
          .threads = threads};
}

std::uint64_t free_memory() noexcept {
  const std::uint64_t available = available_memory();
  if (available == 0) return UINT64_MAX;
  return resident_memory() + available - std::min(gibi, available / 10);
}

MemoryPlan plan_memory(const PlanInputs& inputs) {
  require(inputs.sessions >= 1, Errc::bad_argument, "{} sessions, expected 1 or more", inputs.sessions);
  return Planner(inputs).plan();
}

}  // namespace millrace
