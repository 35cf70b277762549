#include "apps/cli/plan_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/common/json_text.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "loader/checkpoint.h"

namespace millrace {
namespace {

std::string size_text(std::uint64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

// A row of the table of memory; nothing for what there is none of.
std::string row(const std::string& what, std::uint64_t bytes, const std::string& remark = "") {
  if (bytes == 0) return {};
  return fmt::format("  {:<22}{:>12}{}{}\n", what, size_text(bytes), remark.empty() ? "" : "   ", remark);
}

// "12.3 tokens/s", with as many digits as mean something.
std::string rate_text(double tokens_per_second) {
  return fmt::format("{:.{}f} tokens/s", tokens_per_second, tokens_per_second < 10 ? 2 : 0);
}

std::string weight_rows(const MemoryPlan::Weights& weights) {
  return row("embedding", weights.embedding) + row("attention", weights.attention) +
         row("dense MLP", weights.dense_mlp) + row("routers and norms", weights.routers_and_norms) +
         row("head", weights.head) + row("prediction layers", weights.mtp, "--mtp off does without");
}

std::string expert_rows(const MemoryPlan& plan) {
  const MemoryPlan::Experts& experts = plan.experts;
  if (experts.count == 0) return {};
  if (experts.resident)
    return row("experts", experts.resident_bytes, fmt::format("all {}, loaded at the start", experts.count));
  return row("expert cache", experts.cache_bytes,
             fmt::format("{} of {} experts, {:.1f} %; the others are read when wanted", experts.slots(), experts.count,
                         100 * experts.share()));
}

std::string memory_table(const MemoryPlan& plan, bool given) {
  std::string text = "memory\n";
  text += weight_rows(plan.weights);
  text += row(plan.sessions == 1 ? "KV cache" : fmt::format("KV caches of {}", plan.sessions), plan.kv(),
              fmt::format("{} tokens{}, {} each", plan.context, plan.sessions == 1 ? "" : " a session",
                          size_text(plan.kv_per_token)));
  text += row("working memory", plan.workspace, fmt::format("passes of {} tokens", plan.chunk));
  text += row("sampling, guessing", plan.session_work * static_cast<std::uint64_t>(plan.sessions));
  if (plan.loading > plan.working())
    text += row("loading, more by", plan.loading - plan.working(), "than what takes its place");
  text += row("set aside", plan.aside);
  text += row("the program", plan.process);
  text += expert_rows(plan);
  text += fmt::format("  {:-<34}\n", "");
  text += row("in all", plan.total());
  if (plan.budget != UINT64_MAX)
    text += row(given ? "of --memory" : "of what is free", plan.budget,
                plan.fits() ? "" : fmt::format("too little: at least {} are needed", size_text(plan.least())));
  return text + "\n";
}

std::string speed_line(const char* what, const ResourceTimes& times) {
  return fmt::format("  {:<22}{:>12}   limited by {}; ms a token: disk {:.1f}, memory {:.1f}, compute {:.1f}\n", what,
                     rate_text(times.tokens_per_second()), name_of(times.limit()), 1e3 * times.disk, 1e3 * times.memory,
                     1e3 * times.compute);
}

const char* source_text(HitRate source) {
  if (source == HitRate::given) return "as --hit-rate says";
  if (source == HitRate::replayed) return "as with the routing in --trace";
  return "assumed; --trace replays a recorded routing";
}

std::string speed_table(const PlanReport& report) {
  const SpeedEstimate& speed = report.speed;
  std::string text = fmt::format("expected speed, {} threads\n", report.engine.parallel().threads());
  text += speed_line("prompt", speed.prefill);
  text += speed_line("generation", speed.decode);
  if (speed.hit_rate < 1) {
    text += fmt::format(
        "  a generated token wants {} of experts; {:.0f} % of that are expected in the cache\n"
        "  ({}), {} come from the disk.\n"
        "  A prompt of {} tokens reads {}.\n",
        bytes_text(speed.expert_bytes), 100 * speed.hit_rate, source_text(report.hit_rate),
        bytes_text(speed.decode_read_bytes), speed.prompt_tokens, bytes_text(speed.prefill_read_bytes));
  }
  const MachineRates& rates = report.rates;
  text += fmt::format("  {}: disk {}/s, memory {}/s, {:.0f} GFLOP/s\n", rates.measured ? "measured here" : "assumed",
                      bytes_text(rates.disk), bytes_text(rates.memory), rates.compute / 1e9);
  return text;
}

nlohmann::ordered_json times_json(const ResourceTimes& times) {
  return {{"tokens_per_second", times.tokens_per_second()},
          {"limited_by", name_of(times.limit())},
          {"seconds_per_token", {{"disk", times.disk}, {"memory", times.memory}, {"compute", times.compute}}}};
}

nlohmann::ordered_json memory_json(const MemoryPlan& plan) {
  const MemoryPlan::Weights& weights = plan.weights;
  const MemoryPlan::Experts& experts = plan.experts;
  nlohmann::ordered_json budget = nullptr;
  if (plan.budget != UINT64_MAX) budget = plan.budget;
  return {{"budget", budget},
          {"fits", plan.fits()},
          {"least", plan.least()},
          {"total", plan.total()},
          {"weights",
           {{"embedding", weights.embedding},
            {"attention", weights.attention},
            {"dense_mlp", weights.dense_mlp},
            {"routers_and_norms", weights.routers_and_norms},
            {"head", weights.head},
            {"mtp", weights.mtp}}},
          {"kv", plan.kv()},
          {"kv_per_token", plan.kv_per_token},
          {"workspace", plan.workspace},
          {"session_work", plan.session_work},
          {"process", plan.process},
          {"loading", plan.loading},
          {"aside", plan.aside},
          {"experts",
           {{"count", experts.count},
            {"resident", experts.resident},
            {"file_bytes", experts.file_bytes},
            {"resident_bytes", experts.resident_bytes},
            {"cache_bytes", experts.cache_bytes},
            {"slot_bytes", experts.slot_bytes},
            {"slots", experts.slots()},
            {"share", experts.share()}}}};
}

}  // namespace

std::string plan_text(const PlanReport& report) {
  const Checkpoint& checkpoint = report.engine.checkpoint();
  std::string text = fmt::format("{}: {}", printable(model_name(report.engine)), report.engine.config().family);
  if (checkpoint.absent_files() > 0)
    text += fmt::format("; {} of {} files are absent, planned by the index", checkpoint.absent_files(),
                        checkpoint.files().size());
  return text + "\n\n" + memory_table(report.engine.plan(), report.memory_given) + speed_table(report);
}

std::string plan_json(const PlanReport& report) {
  const MemoryPlan& plan = report.engine.plan();
  const SpeedEstimate& speed = report.speed;
  return json_text({{"model", model_name(report.engine)},
                    {"family", report.engine.config().family},
                    {"absent_files", report.engine.checkpoint().absent_files()},
                    {"context", plan.context},
                    {"sessions", plan.sessions},
                    {"chunk", plan.chunk},
                    {"threads", report.engine.parallel().threads()},
                    {"memory", memory_json(plan)},
                    {"rates",
                     {{"measured", report.rates.measured},
                      {"disk_bytes_per_second", report.rates.disk},
                      {"memory_bytes_per_second", report.rates.memory},
                      {"flops_per_second", report.rates.compute}}},
                    {"hit_rate", speed.hit_rate},
                    {"hit_rate_from", report.hit_rate == HitRate::given      ? "option"
                                      : report.hit_rate == HitRate::replayed ? "trace"
                                                                             : "assumption"},
                    {"expert_bytes_per_token", speed.expert_bytes},
                    {"read_bytes_per_token", speed.decode_read_bytes},
                    {"decode", times_json(speed.decode)},
                    {"prompt_tokens", speed.prompt_tokens},
                    {"prompt_read_bytes", speed.prefill_read_bytes},
                    {"prefill", times_json(speed.prefill)}});
}

}  // namespace millrace
