#include <algorithm>
#include <memory>
#include <optional>

#include "apps/cli/command.h"
#include "apps/cli/plan_report.h"
#include "apps/common/machine_probe.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "loader/expert_policy.h"
#include "loader/policy_replay.h"
#include "loader/routing_trace.h"
#include "model/guess_policy.h"
#include "runtime/error.h"

namespace millrace {
namespace {

struct PlanFlags {
  EngineFlags engine;
  std::int64_t sessions = 1;
  std::optional<double> hit_rate;
  std::string mtp = "auto", trace;
  bool json = false, no_probe = false, probe = false;
};

// Of this machine: measured before or now, unless nobody wants that.
MachineRates rates_of(const PlanFlags& flags, const std::filesystem::path& folder, const Engine& engine) {
  if (flags.no_probe) return {};
  const int threads = engine.parallel().threads();
  const bool disk = measures_disk(engine.checkpoint());
  if (!flags.probe) {
    std::optional<MachineRates> known = known_rates(folder, threads);
    if (!known && !disk) known = known_rates(folder, threads, false);
    if (known) return *known;
  }
  const MachineRates rates = measure_rates(engine.checkpoint(), engine.parallel());
  remember_rates(folder, threads, disk, rates);
  return rates;
}

// What a cache of the planned size would have made of a recorded routing, once it is full.
double replayed_hit_rate(const std::string& file, const Engine& engine) {
  const RoutingTrace trace = RoutingTrace::read(file);
  const std::int64_t count = engine.plan().experts.count;
  require(trace.total_experts() == count && trace.size() > 0, Errc::bad_argument,
          "{}: a routing of {} experts in {} entries, the model has {} experts", file, trace.total_experts(),
          trace.size(), count);
  FrequencyPolicy policy(trace.experts());
  const std::int64_t slots = std::max<std::int64_t>(1, engine.plan().experts.slots());
  return replay(trace, slots, policy, trace.size() / 4).hit_rate();
}

int show_plan(PlanFlags& flags) {
  apply_isa(flags.engine);
  flags.engine.mtp_layers = flags.mtp == "off" ? 0 : GuessPolicy::most_guesses;
  EngineOptions options = engine_options(flags.engine);
  options.sessions = flags.sessions;
  options.headers_only = options.absent_shards = true;
  const std::filesystem::path folder = model_folder(flags.engine.model);
  auto engine = Engine::open(folder, options);
  options.rates = rates_of(flags, folder, *engine);
  if (options.rates.measured) engine = Engine::open(folder, options);  // which may choose other passes
  HitRate source = flags.hit_rate ? HitRate::given : HitRate::assumed;
  if (!flags.trace.empty()) {
    flags.hit_rate = replayed_hit_rate(flags.trace, *engine);
    source = HitRate::replayed;
  }
  const PlanReport report{
      .engine = *engine,
      .memory_given = !flags.engine.memory.empty(),
      .rates = options.rates,
      .speed = estimate_speed(engine->program(), engine->config(), engine->plan(), options.rates, flags.hit_rate),
      .hit_rate = source};
  write_output(flags.json ? plan_json(report) : plan_text(report));
  engine->plan().check(model_name(*engine));
  return EXIT_SUCCESS;
}

}  // namespace

Run declare_plan(CLI::App& app) {
  const auto flags = std::make_shared<PlanFlags>();
  app.add_option("--sessions", flags->sessions, "sessions that are full at the same time; default: 1")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  app.add_option("--mtp", flags->mtp, "auto or off: whether prediction layers are loaded")
      ->option_text("HOW")
      ->check(CLI::IsMember(std::vector<std::string>{"auto", "off"}));
  app.add_option("--hit-rate", flags->hit_rate,
                 "expert reads that find their expert in memory, 0 to 1; default: assumed")
      ->option_text("X")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--trace", flags->trace, "a routing that bench --trace-experts recorded, for the hit rate")
      ->option_text("F")
      ->excludes("--hit-rate");
  app.add_flag("--probe", flags->probe, "measure disk, memory and processor again, which takes a second")
      ->option_text(" ");
  app.add_flag("--no-probe", flags->no_probe, "assume them instead; default: measured once per machine")
      ->option_text(" ")
      ->excludes("--probe");
  app.add_flag("--json", flags->json, "print one JSON object instead of the tables");
  add_engine_options(app, flags->engine);
  app.footer(
      "Reads headers only; files that the index names may still be missing.\n"
      "Example: millrace plan -m MiMo-V2-Flash --memory 16G --ctx 8192");
  return [flags] { return show_plan(*flags); };
}

}  // namespace millrace
