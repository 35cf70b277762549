#include <fmt/ranges.h>
#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/common/input.h"
#include "apps/common/interrupt.h"
#include "apps/common/json_text.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "apps/common/sampling_flags.h"
#include "loader/tokenizer.h"
#include "model/generate.h"
#include "ops/isa.h"

namespace millrace {
namespace {

struct GenerateFlags {
  EngineFlags engine;
  PromptFlags prompt;
  GenerateOptions generation;
  SamplingFlags sampling;
  bool json = false, stats = false, render_only = false;
};

double per_second(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

struct Report {
  const Engine& engine;
  const std::vector<std::int32_t>& prompt;
  const GenerateResult& result;
  std::uint64_t seed;
  double load_seconds;

  double prompt_rate() const { return per_second(static_cast<double>(prompt.size()), result.timings.prompt_seconds); }
  double rate() const {
    return per_second(static_cast<double>(result.timings.passes), result.timings.generate_seconds);
  }
};

std::string json_report(const Report& report) {
  const GenerateTimings& timings = report.result.timings;
  return json_text({{"model", model_name(report.engine)},
                    {"prompt_ids", report.prompt},
                    {"ids", report.result.ids},
                    {"text", report.result.text},
                    {"finish_reason", name_of(report.result.finish_reason)},
                    {"seed", report.seed},
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
      "prompt     {} tokens in {:.2f} s, {:.1f} tokens/s\n"
      "generated  {} tokens in {:.2f} s, {:.1f} tokens/s, finished by {}\n"
      "memory     {} at most\n"
      "machine    {} threads, tier {}, seed {}\n",
      report.load_seconds, report.prompt.size(), timings.prompt_seconds, report.prompt_rate(), report.result.ids.size(),
      timings.generate_seconds, report.rate(), name_of(report.result.finish_reason),
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

int generate_text(GenerateFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const std::unique_ptr<Engine> engine = open_engine(flags.engine);
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::vector<std::int32_t> prompt = flags.prompt.read(*engine);
  flags.generation.sampling = flags.sampling.options(*engine);

  Session session(*engine);
  const Interrupt interrupt;
  flags.generation.interrupted = Interrupt::requested;
  const bool stream = !flags.json;
  const GenerateResult result = generate(session, prompt, flags.generation, [stream](std::string_view text) {
    if (stream) write_output(text);
    return true;
  });

  const Report report{*engine, prompt, result, flags.generation.sampling.seed, load_seconds};
  if (flags.json) write_output(json_report(report));
  if (stream && !engine->has_tokenizer()) write_output(fmt::format("{}", fmt::join(result.ids, " ")));
  if (stream && output_is_terminal()) write_output("\n");
  if (flags.stats) print_note(stats_report(report));
  return result.finish_reason == FinishReason::interrupted ? Interrupt::exit_code : EXIT_SUCCESS;
}

}  // namespace

Run declare_generate(CLI::App& app) {
  const auto flags = std::make_shared<GenerateFlags>();
  flags->prompt.add_to(app);
  app.add_flag("--render-only", flags->render_only, "print the prompt that --messages becomes, and stop")
      ->option_text(" ")
      ->needs("--messages");
  app.add_option("-n,--max-tokens", flags->generation.max_tokens, "most tokens to generate; default: 256")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  app.add_option("--stop", flags->generation.stop, "end before this text; may be repeated")
      ->option_text("TEXT")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", flags->generation.ignore_eos, "go on after the model's stop tokens");
  app.add_flag("--json", flags->json, "print one JSON object instead of the text");
  app.add_flag("--stats", flags->stats, "speed and memory, on standard error");
  flags->sampling.add_to(app);
  add_engine_options(app, flags->engine);
  app.footer(
      "Ctrl-C ends with the text so far, exit code 130.\nExample: millrace generate \"Once upon a time\" -n 100");
  return [flags] { return flags->render_only ? render_prompt(*flags) : generate_text(*flags); };
}

}  // namespace millrace
