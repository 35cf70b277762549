#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/bench/compare.h"
#include "apps/bench/op_table.h"
#include "apps/bench/runner.h"
#include "apps/cli/bench_routing.h"
#include "apps/cli/command.h"
#include "apps/common/json_text.h"
#include "apps/common/mtp_flag.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "loader/atomic_file.h"
#include "loader/text_file.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

struct BenchFlags {
  EngineFlags engine;
  std::vector<int> threads;
  std::vector<std::int64_t> prompts = {512}, batches = {1, 4, 8}, depths = {0, 4096, 32768};
  std::int64_t generate = 64;
  int rounds = 5;
  std::vector<std::string> only = {"prefill", "decode", "load", "mtp"};
  std::string json;
  MtpFlag mtp{.text = "off"};
  std::vector<double> accepted;
  bool kernels = false;
  std::vector<std::string> compare;
  std::string trace, replay;
};

constexpr std::int64_t largest_report = std::int64_t{1} << 26;

BenchReport read_report(const std::string& file) {
  return parse_bench_json(read_text_file(file, largest_report), file);
}

int compare(const BenchFlags& flags) {
  write_output(comparison_text(compare_bench(read_report(flags.compare[0]), read_report(flags.compare[1]))));
  return EXIT_SUCCESS;
}

void tell(const std::string& stage) {
  if (errors_are_terminal()) print_note(stage + "\n");
}

BenchPlan plan_of(const BenchFlags& flags) {
  const auto wants = [&flags](const char* measure) {
    return std::find(flags.only.begin(), flags.only.end(), measure) != flags.only.end();
  };
  BenchPlan plan{.model = model_folder(flags.engine.model),
                 .engine = engine_options(flags.engine),
                 .numerics = flags.engine.numerics,
                 .threads = flags.threads};
  if (plan.threads.empty()) plan.threads = {available_processors()};
  if (wants("prefill")) plan.prompts = flags.prompts;
  if (wants("decode")) plan.batches = flags.batches;
  plan.depths = flags.depths;
  plan.generate = flags.generate;
  plan.rounds = flags.rounds;
  plan.load = wants("load");
  if (wants("mtp") && flags.mtp.guesses() != 0) {
    plan.guesses = GuessPlan{.guesses = flags.mtp.guesses(),
                             .accepted = flags.accepted,
                             .depth = flags.depths.front(),
                             .tokens = flags.generate};
    plan.engine.mtp_layers = flags.mtp.layers();
  }
  plan.progress = tell;
  return plan;
}

int bench(const BenchFlags& flags) {
  if (flags.mtp.guesses() == 0 && (flags.only == std::vector<std::string>{"mtp"} || !flags.accepted.empty()))
    usage_error("--mtp", "how many guesses? auto or a number from 1");
  if (!flags.compare.empty()) return compare(flags);
  if (!flags.replay.empty()) {
    write_output(replay_report(RoutingTrace::read(flags.replay)));
    return EXIT_SUCCESS;
  }
  if (!flags.trace.empty()) {
    check_output_file("--trace-experts", flags.trace);
    trace_experts(*open_engine(flags.engine), flags.generate).write(flags.trace);
    return EXIT_SUCCESS;
  }
  apply_isa(flags.engine);
  const BenchPlan plan = plan_of(flags);
  if (flags.kernels) {
    write_output(op_table(plan.model, plan.engine, plan.threads, flags.rounds));
    return EXIT_SUCCESS;
  }
  if (!flags.json.empty()) check_output_file("--json", flags.json);
  const BenchReport report = run_bench(plan);
  if (!flags.json.empty()) {
    AtomicFile file(flags.json);
    const std::string text = json_text(bench_json(report));
    file.write(std::as_bytes(std::span(text)));
    file.finish();
  }
  write_output(bench_text(report));
  return EXIT_SUCCESS;
}

}  // namespace

Run declare_bench(CLI::App& app) {
  const auto flags = std::make_shared<BenchFlags>();
  const auto list = [&app](const char* name, auto& values, const char* help, auto least, auto most) {
    app.add_option(name, values, help)->option_text("N,...")->delimiter(',')->check(CLI::Range(least, most));
  };
  constexpr std::int64_t most = std::int64_t{1} << 30;
  list("--prompt", flags->prompts, "tokens of a prefill; default: 512", std::int64_t{1}, most);
  app.add_option("--gen", flags->generate, "passes of a decode; default: 64")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{1}, most));
  list("--batch", flags->batches, "sessions decoding in one pass; default: 1,4,8", std::int64_t{1}, most);
  list("--depth", flags->depths, "tokens held before, made up; default: 0,4096,32768", std::int64_t{0}, most);
  flags->mtp.add_to(app);
  app.get_option("--mtp")->description("also decode with guesses: auto, off (default), 1, 2 or 3 per pass");
  app.add_option("--accept", flags->accepted, "make up the shares of 1st, 2nd, ... guesses that come true")
      ->option_text("P,...")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--rounds", flags->rounds, "how often everything is measured; default: 5")
      ->option_text("N")
      ->check(CLI::Range(1, 1000));
  app.add_option("--only", flags->only, "some of prefill,decode,load,mtp")
      ->option_text("WHAT,...")
      ->delimiter(',')
      ->check(CLI::IsMember(std::vector<std::string>{"prefill", "decode", "load", "mtp"}));
  app.add_option("--json", flags->json, "write the results to a file")->option_text("F");
  app.add_option("--compare", flags->compare, "what changed between two such files, beyond noise")
      ->option_text("A B")
      ->expected(2);
  app.add_option("--trace-experts", flags->trace, "write which experts --gen tokens of a made-up text ask for")
      ->option_text("F");
  app.add_option("--replay", flags->replay, "hit rates of caches of experts on such a file")->option_text("F");
  app.add_flag("--kernels", flags->kernels, "single operators at the shapes of the model instead");
  add_engine_options(app, flags->engine);
  app.remove_option(app.get_option("--threads"));
  list("--threads", flags->threads, "numbers of threads; default: every processor", 1, Parallel::max_threads);
  app.get_option("--threads")->group("Engine");
  app.add_option("--chunk", flags->engine.chunk, "rows of a pass of a prefill")
      ->option_text("N")
      ->check(CLI::Range(1, 1 << 20))
      ->group("Engine");
  app.footer("Example: millrace bench --threads 1,2 --json today.json");
  return [flags] { return bench(*flags); };
}

}  // namespace millrace
