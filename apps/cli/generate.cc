#include <fmt/ranges.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/command.h"
#include "apps/cli/session_file.h"
#include "apps/common/help_pages.h"
#include "apps/common/input.h"
#include "apps/common/interrupt.h"
#include "apps/common/json_text.h"
#include "apps/common/mtp_flag.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/profile.h"
#include "apps/common/progress.h"
#include "apps/common/prompt_progress.h"
#include "apps/common/sampling_flags.h"
#include "loader/tokenizer.h"
#include "model/generate.h"
#include "ops/isa.h"
#include "runtime/clock.h"
#include "runtime/error.h"
#include "runtime/observer.h"

namespace millrace {
namespace {

struct GenerateFlags {
  EngineFlags engine;
  PromptFlags prompt;
  GenerateOptions generation;
  SamplingFlags sampling;
  MtpFlag mtp;
  std::string profile;
  bool json = false, stats = false, render_only = false, no_cache = false;
  std::string session;  // a file, or nothing
  bool append = false, keep_session = false;
};

double per_second(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

struct Report {
  const Engine& engine;
  const std::vector<std::int32_t>& prompt;  // without what a session file held
  std::int64_t kept;                        // tokens it held
  const GenerateResult& result;
  std::uint64_t seed;
  double load_seconds;

  double prompt_rate() const { return per_second(static_cast<double>(prompt.size()), result.timings.prompt_seconds); }
  // The first token comes with the prompt.
  double later_tokens() const { return std::max(0.0, static_cast<double>(result.ids.size()) - 1); }
  double rate() const { return per_second(later_tokens(), result.timings.generate_seconds); }
  double tokens_per_pass() const { return per_second(later_tokens(), static_cast<double>(result.timings.passes)); }
};

// Null where the model's prediction layers were not loaded.
nlohmann::json json_speculation(const Report& report) {
  const SpeculationStats& stats = report.result.speculation;
  if (stats.layers.empty()) return nullptr;
  nlohmann::json layers = nlohmann::json::array();
  for (const SpeculationStats::Layer& layer : stats.layers)
    layers.push_back({{"guesses", layer.guesses}, {"accepted", layer.accepted}});
  return {{"layers", layers},
          {"passes_with_guesses", stats.passes},
          {"passes", report.result.timings.passes},
          {"tokens_per_pass", report.tokens_per_pass()},
          {"guess_seconds", stats.guess_seconds},
          {"estimated_seconds_saved", stats.saved_seconds ? nlohmann::json(*stats.saved_seconds) : nullptr}};
}

// Null where all experts are in memory.
nlohmann::json json_experts(const Engine& engine) {
  const std::optional<ExpertCacheStats> stats = engine.expert_stats();
  if (!stats) return nullptr;
  return {{"reader", stats->reader},
          {"slots", stats->slots},
          {"slot_bytes", stats->slot_bytes},
          {"hits", stats->hits},
          {"misses", stats->misses},
          {"hinted", stats->hinted},
          {"hints_used", stats->hints_used},
          {"reads", stats->reads},
          {"bytes_read", stats->bytes_read},
          {"read_seconds", stats->read_seconds},
          {"wait_seconds", stats->wait_seconds}};
}

// Nothing, or a line: what reading ahead of the layers was good for.
std::string hints_line(const ExpertCacheStats& stats) {
  if (stats.hinted == 0) return {};
  const auto used = static_cast<double>(stats.hints_used);
  const double per_read = per_second(stats.read_seconds, static_cast<double>(stats.reads));
  return fmt::format(
      "hints      {} experts read before a layer asked, {:.1f} % of them in vain, {:.2f} s ahead in all\n",
      stats.hinted, 100 * (1 - per_second(used, static_cast<double>(stats.hinted))), used * per_read);
}

// A line or two, or nothing.
std::string experts_line(const Engine& engine) {
  const std::optional<ExpertCacheStats> stats = engine.expert_stats();
  if (!stats) return {};
  const auto read = static_cast<double>(stats->bytes_read);
  return fmt::format(
      "experts    {:.1f} % found in a cache of {}; {} read by {} at {}/s, {:.2f} s waited for\n{}",
      100 * per_second(static_cast<double>(stats->hits), static_cast<double>(stats->hits + stats->misses)),
      bytes_text(static_cast<double>(stats->slots * stats->slot_bytes)), bytes_text(read), stats->reader,
      bytes_text(per_second(read, stats->read_seconds)), stats->wait_seconds, hints_line(*stats));
}

// One line, or nothing.
std::string speculation_line(const Report& report) {
  const SpeculationStats& stats = report.result.speculation;
  if (stats.layers.empty()) return {};
  std::vector<std::string> shares;
  for (const SpeculationStats::Layer& layer : stats.layers)
    if (layer.guesses > 0)
      shares.push_back(
          fmt::format("{:.0f} %", 100.0 * static_cast<double>(layer.accepted) / static_cast<double>(layer.guesses)));
  if (shares.empty()) return "mtp        no guesses\n";
  const std::string saved =
      stats.saved_seconds ? fmt::format(", an estimated {:.2f} s saved", *stats.saved_seconds) : "";
  return fmt::format("mtp        {:.2f} tokens per pass, guesses accepted by layer: {}{}\n", report.tokens_per_pass(),
                     fmt::join(shares, ", "), saved);
}

std::string json_report(const Report& report) {
  const GenerateTimings& timings = report.result.timings;
  return json_text({{"model", model_name(report.engine)},
                    {"kept_tokens", report.kept},
                    {"prompt_ids", report.prompt},
                    {"ids", report.result.ids},
                    {"text", report.result.text},
                    {"finish_reason", name_of(report.result.finish_reason)},
                    {"seed", report.seed},
                    {"speculation", json_speculation(report)},
                    {"experts", json_experts(report.engine)},
                    {"timings",
                     {{"load_seconds", report.load_seconds},
                      {"prompt_seconds", timings.prompt_seconds},
                      {"prompt_tokens_per_second", report.prompt_rate()},
                      {"generate_seconds", timings.generate_seconds},
                      {"tokens_per_second", report.rate()}}}});
}

std::string stats_report(const Report& report) {
  const GenerateTimings& timings = report.result.timings;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return fmt::format(
      "load       {:.2f} s\n"
      "prompt     {}{} tokens in {:.2f} s, {:.1f} tokens/s\n"
      "generated  {} tokens in {:.2f} s, {:.1f} tokens/s, finished by {}\n"
      "{}{}"
      "memory     {} at most\n"
      "machine    {} threads, tier {}, seed {}\n",
      report.load_seconds, report.kept > 0 ? fmt::format("{} tokens kept, ", report.kept) : "", report.prompt.size(),
      timings.prompt_seconds, report.prompt_rate(), report.result.ids.size(), timings.generate_seconds, report.rate(),
      name_of(report.result.finish_reason), speculation_line(report), experts_line(report.engine),
      bytes_text(static_cast<double>(usage.ru_maxrss) * 1024), report.engine.parallel().threads(),
      name_of(active_isa()), report.seed);
}

// The prompt that a conversation becomes; no weights are loaded for it.
int render_prompt(const GenerateFlags& flags) {
  const std::filesystem::path folder = model_folder(flags.engine.model);
  const RenderedChat rendered = flags.prompt.render_messages(folder);
  if (flags.json)
    write_output(json_text({{"text", rendered.text()}, {"ids", rendered.encode(Tokenizer::open(folder))}}));
  else
    write_output(rendered.text());
  return EXIT_SUCCESS;
}

// The tokens to compute.
std::vector<std::int32_t> read_prompt(const GenerateFlags& flags, const Engine& engine,
                                      std::optional<SessionFile>& file) {
  const bool goes_on = file && file->restored() && !flags.prompt.given();
  const std::vector<std::int32_t> prompt =
      goes_on ? std::vector<std::int32_t>() : flags.prompt.read(engine, !(flags.append && file->restored()));
  return file ? file->begin(prompt, flags.append) : prompt;
}

// Without tokens to draw a session still takes the prompt, to be kept.
GenerateResult compute(Session& session, const std::vector<std::int32_t>& prompt, const GenerateFlags& flags,
                       const std::function<bool(std::string_view)>& on_text) {
  PromptProgress progress(session);
  std::vector<Observer*> observers = {&progress};
  if (flags.generation.observer != nullptr) observers.push_back(flags.generation.observer);  // times the steps alone
  ObserverList list(std::move(observers));
  GenerateOptions options = flags.generation;
  options.observer = &list;
  if (flags.session.empty() || flags.generation.max_tokens > 0) return generate(session, prompt, options, on_text);
  const Clock::time_point start = Clock::now();
  GenerateResult result;
  try {
    session.forward(prompt, {.logits_rows = LogitsRows::none(), .observer = &list, .progress = [](std::int64_t) {
                               require(!Interrupt::requested(), Errc::cancelled, "interrupted");
                             }});
  } catch (const Error& error) {
    if (error.code() != Errc::cancelled) throw;
    result.finish_reason = FinishReason::interrupted;
  }
  result.timings.prompt_seconds = seconds_since(start);
  return result;
}

int generate_text(GenerateFlags& flags) {
  const Clock::time_point start = Clock::now();
  flags.engine.mtp_layers = flags.mtp.layers();
  flags.generation.guesses = flags.mtp.guesses();
  Profile profile(flags.profile);
  flags.generation.observer = profile.observer();
  const std::unique_ptr<Engine> engine = open_engine(flags.engine);
  flags.mtp.check(*engine);
  const double load_seconds = seconds_since(start);
  flags.generation.sampling = flags.sampling.options(*engine);
  flags.generation.use_cache = !flags.no_cache;

  Session session(*engine);
  std::optional<SessionFile> file;
  if (!flags.session.empty()) file.emplace(flags.session, session);
  const std::vector<std::int32_t> prompt = read_prompt(flags, *engine, file);
  const Interrupt interrupt;
  flags.generation.interrupted = Interrupt::requested;
  const bool stream = !flags.json;
  const GenerateResult result = compute(session, prompt, flags, [stream](std::string_view text) {
    if (stream) write_output(text);
    return true;
  });

  const Report report{*engine, prompt, file ? file->kept() : 0, result, flags.generation.sampling.seed, load_seconds};
  if (flags.json) write_output(json_report(report));
  if (stream && !engine->has_tokenizer()) write_output(fmt::format("{}", fmt::join(result.ids, " ")));
  if (stream && output_is_terminal()) write_output("\n");
  if (flags.stats) print_note(stats_report(report));
  // An interrupted prompt leaves nothing worth keeping.
  const bool computed = !result.ids.empty() || result.finish_reason != FinishReason::interrupted;
  if (file && computed && !flags.keep_session) file->save(result);
  profile.finish();
  return result.finish_reason == FinishReason::interrupted ? Interrupt::exit_code : EXIT_SUCCESS;
}

// What few need is on a page of help of its own.
void move_to_second_page(CLI::App& app, const char* group) {
  for (const char* option :
       {"--no-generation-prompt", "--render-only", "--min-tokens", "--ignore-eos", "--append", "--keep-session",
        "--no-cache", "--profile", "--repetition-penalty", "--logit-bias", "--window"})
    app.get_option(option)->group(group);
}

}  // namespace

Run declare_generate(CLI::App& app) {
  const auto flags = std::make_shared<GenerateFlags>();
  constexpr const char* more_group = "More options";
  add_help_pages(app, more_group, "prompts shown, sessions, stop tokens, biases, profiles",
                 "millrace generate \"Once upon a time\" --profile trace.json");
  flags->prompt.add_to(app);
  app.add_flag("--render-only", flags->render_only, "print the prompt that --messages becomes, and stop")
      ->option_text(" ")
      ->needs("--messages");
  app.add_option("-n,--max-tokens", flags->generation.max_tokens, "most tokens to generate; default: 256")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  app.add_option("--min-tokens", flags->generation.min_tokens, "draw no stop token before N others")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  app.add_option("--stop", flags->generation.stop, "end before this text; may be repeated")
      ->option_text("TEXT")
      ->allow_extra_args(false);
  flags->mtp.add_to(app);
  CLI::Option* session =
      app.add_option("--session", flags->session, "go on with what this file holds of the text; at the end write it")
          ->option_text("F");
  app.add_flag("--append", flags->append, "the prompt follows the session instead of being the whole text")
      ->option_text(" ")
      ->needs(session);
  app.add_flag("--keep-session", flags->keep_session, "leave the session's file as it is")
      ->option_text(" ")
      ->needs(session);
  app.add_flag("--ignore-eos", flags->generation.ignore_eos, "go on after the model's stop tokens");
  app.add_flag("--no-cache", flags->no_cache, "compute all tokens again at every step; for comparison")
      ->option_text(" ")
      ->excludes(session);
  app.add_flag("--json", flags->json, "print one JSON object instead of the text");
  app.add_flag("--stats", flags->stats, "speed and memory, on standard error");
  app.add_option("--profile", flags->profile, "time every step; a Chrome trace, its sums on standard error")
      ->option_text("F");
  flags->sampling.add_to(app);
  add_engine_options(app, flags->engine);
  move_to_second_page(app, more_group);
  app.footer("Example: millrace generate \"Once upon a time\" -n 100");
  return [flags] { return flags->render_only ? render_prompt(*flags) : generate_text(*flags); };
}

}  // namespace millrace
