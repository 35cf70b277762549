#include "apps/bench/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "apps/bench/compute_bench.h"
#include "apps/bench/load_bench.h"
#include "apps/common/options.h"
#include "loader/disk_rate.h"
#include "ops/ceilings.h"
#include "runtime/machine.h"

namespace millrace {
namespace {

constexpr double peak_seconds = 0.02;
constexpr int readings = 2;  // between two results

// Prompts, depths and passes cut to what the context holds; none of them twice.
std::vector<ComputeCase> cases_of(const BenchPlan& plan, std::int64_t context) {
  std::vector<ComputeCase> cases;
  const auto add = [&](const ComputeCase& wanted) {
    ComputeCase what = wanted;
    what.prompt = std::min(what.prompt, context);
    what.generate = std::min(what.generate, context - 1);
    if (what.prompt == 0) what.depth = std::min(what.depth, context - 1 - what.generate);
    if (std::find(cases.begin(), cases.end(), what) == cases.end()) cases.push_back(what);
  };
  for (std::int64_t prompt : plan.prompts) add({.prompt = prompt});
  for (std::int64_t batch : plan.batches)
    add({.batch = batch, .depth = plan.depths.front(), .generate = plan.generate});
  for (std::size_t i = 1; i < plan.depths.size() && !plan.batches.empty(); ++i)
    add({.batch = plan.batches.front(), .depth = plan.depths[i], .generate = plan.generate});
  return cases;
}

// The best of some readings: whatever else the machine does can only make it look slower.
double bandwidth_of(const ReadCeiling& memory, const Parallel& parallel) {
  double best = 0;
  for (int i = 0; i < readings; ++i) best = std::max(best, memory.measure(parallel));
  return best;
}

// What the disk gives for the reads of streamed experts: of their size, anywhere in the model's files.
class ExpertDisk {
 public:
  // Nothing to measure where experts are not streamed.
  explicit ExpertDisk(const Engine& engine) {
    const std::optional<ExpertCacheStats> stats = engine.expert_stats();
    if (!stats) return;
    expert_bytes_ = stats->expert_bytes;
    files_ = weight_files(engine.checkpoint());
    disk_.emplace(expert_bytes_);
  }
  bool is_used() const { return disk_.has_value(); }
  double measure() { return is_used() ? disk_->random(files_, expert_bytes_, disk_bytes, seed_++) : 0; }

 private:
  static constexpr std::uint64_t disk_bytes = std::uint64_t{512} << 20;

  std::vector<std::filesystem::path> files_;
  std::size_t expert_bytes_ = 0;
  std::optional<DiskRate> disk_;
  std::uint64_t seed_ = 1;
};

double mean_rate(double one, double other) {
  return one > 0 && other > 0 ? 2 / (1 / one + 1 / other) : 0;
}

// Everything that is computed on one number of threads.
class ThreadRounds {
 public:
  ThreadRounds(const BenchPlan& plan, int threads, ComputeBench& bench, ExpertDisk& disk)
      : parallel_(threads), bench_(bench), expert_disk_(disk) {
    read_ = {.name = "read", .threads = threads, .unit = "GB/s"};
    disk_ = {.name = "disk, experts at random", .threads = threads, .unit = "GB/s"};
    for (const MultiplyPeak& peak : multiply_peaks())
      peaks_.push_back({.name = std::string(peak.name), .threads = threads, .unit = "GFLOP/s"});
    cases_ = cases_of(plan, bench.engine().context());
    for (const ComputeCase& what : cases_)
      results_.push_back({.measure = what.prompt > 0 ? "prefill" : "decode",
                          .threads = threads,
                          .prompt = what.prompt,
                          .batch = what.prompt > 0 ? 0 : what.batch,
                          .depth = what.depth,
                          .unit = "tokens/s"});
  }

  // Before the rounds: what each case takes to read and to multiply.
  void describe() {
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      bench_.run(cases_[i], parallel_, nullptr);  // takes memory and fills caches
      bench_.describe(cases_[i], parallel_, results_[i]);
    }
  }

  void round(const ReadCeiling& memory) {
    Rates before = measure_rates(memory);
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      const ComputeCase& what = cases_[i];
      const double passes = what.prompt > 0 ? 1 : static_cast<double>(what.generate);
      const double disk_before = expert_disk_.measure();
      const double seconds = bench_.run(what, parallel_, nullptr) / passes;
      // Of both as if they were one: a disk is not at its best all the time, in what is measured either.
      const double disk_after = expert_disk_.measure(), disk = mean_rate(disk_before, disk_after);
      const Rates after = measure_rates(memory);
      BenchResult& result = results_[i];
      const auto tokens = static_cast<double>(what.prompt > 0 ? what.prompt : what.batch);
      result.rate.values.push_back(tokens / seconds);
      double best = std::max(result.bytes / std::max(before.read, after.read),
                             result.flops / std::max(before.flops, after.flops));
      before = after;
      if (disk > 0) best = best_when_streamed(what, result, bench_.missed_bytes() / passes / disk, best);
      if (disk > 0) disk_.rate.values.push_back(1e-9 * disk);
      result.fraction.values.push_back(best / seconds);
    }
  }

  void finish(BenchReport& report) {
    double flops = 0;
    for (const BenchCeiling& peak : peaks_) flops = std::max(flops, 1e9 * peak.rate.median());
    for (BenchResult& result : results_) {
      for (BenchKind& kind : result.kinds)
        kind.ceiling_seconds = std::max(kind.bytes / (1e9 * read_.rate.median()), kind.flops / flops);
      report.results.push_back(std::move(result));
    }
    report.ceilings.push_back(std::move(read_));
    if (!disk_.rate.values.empty()) report.ceilings.push_back(std::move(disk_));
    for (BenchCeiling& peak : peaks_) report.ceilings.push_back(std::move(peak));
  }

 private:
  struct Rates {
    double read, flops;  // bytes and operations per second
  };

  // What the machine can do now: others may take some of it, and the clock changes.
  Rates measure_rates(const ReadCeiling& memory) {
    Rates rates{bandwidth_of(memory, parallel_), 0};
    read_.rate.values.push_back(1e-9 * rates.read);
    const std::vector<MultiplyPeak> peaks = multiply_peaks();
    for (std::size_t i = 0; i < peaks.size(); ++i) {
      const double rate = measure_peak(peaks[i], parallel_, peak_seconds);
      peaks_[i].rate.values.push_back(1e-9 * rate);
      rates.flops = std::max(rates.flops, rate);
    }
    return rates;
  }

  // Reading and computing go on at a time, so that the longer of both is the best. A decode is computed as fast as it
  // was with its experts in memory; a prefill, `at_best`.
  double best_when_streamed(const ComputeCase& what, BenchResult& result, double to_read, double at_best) {
    const double measured = what.prompt > 0 ? 0 : bench_.seconds_without_misses(what, parallel_);
    const double to_compute = measured > 0 ? measured : at_best;
    result.to_read.values.push_back(to_read);
    result.to_compute.values.push_back(to_compute);
    return std::max(to_read, to_compute);
  }

  Parallel parallel_;
  ComputeBench& bench_;
  ExpertDisk& expert_disk_;
  BenchCeiling read_, disk_;
  std::vector<BenchCeiling> peaks_;
  std::vector<ComputeCase> cases_;
  std::vector<BenchResult> results_;  // of each case
};

// Bytes of the measured read, and of all that computing takes beside the engine and one session.
std::uint64_t read_bytes(const BenchPlan& plan, std::uint64_t budget) {
  return std::clamp(budget / 8, plan.read_bytes / 16, plan.read_bytes);
}

std::uint64_t computing_bytes(const BenchPlan& plan, const Engine& headers) {
  const std::uint64_t guesses = plan.guesses ? guessing_bytes(headers, *plan.guesses, plan.rounds) : 0;
  if (plan.prompts.empty() && plan.batches.empty()) return guesses;
  std::int64_t batch = 1, passes = plan.generate;
  for (const std::int64_t sessions : plan.batches) batch = std::max(batch, sessions);
  for (const std::int64_t prompt : plan.prompts) passes = std::max(passes, prompt / headers.chunk() + 1);
  const std::size_t disk = DiskRate::bytes_for(static_cast<std::size_t>(headers.plan().experts.slot_bytes));
  return read_bytes(plan, headers.plan().budget) + Buffer::footprint(disk) + guesses +
         ComputeBench::bytes_for(headers, batch, std::min(passes, headers.context()));
}

void compute(const BenchPlan& plan, const Engine& engine, BenchReport& report) {
  if (plan.prompts.empty() && plan.batches.empty()) return;
  const auto tell = [&plan](const std::string& stage) {
    if (plan.progress) plan.progress(stage);
  };
  tell("warming up");
  ComputeBench bench(engine);
  ExpertDisk disk(engine);
  std::vector<std::unique_ptr<ThreadRounds>> all;
  for (int threads : plan.threads) all.push_back(std::make_unique<ThreadRounds>(plan, threads, bench, disk));
  for (const auto& rounds : all) rounds->describe();
  const ReadCeiling memory(static_cast<std::size_t>(read_bytes(plan, engine.plan().budget)));
  for (int round = 0; round < plan.rounds; ++round) {
    tell(fmt::format("computing, round {} of {}", round + 1, plan.rounds));
    for (const auto& rounds : all) rounds->round(memory);
  }
  for (const auto& rounds : all) rounds->finish(report);
}

}  // namespace

BenchReport run_bench(const BenchPlan& plan) {
  EngineOptions options = plan.engine;
  options.threads = *std::max_element(plan.threads.begin(), plan.threads.end());
  EngineOptions headers = options;
  headers.headers_only = true;
  options.aside = computing_bytes(plan, *Engine::open(plan.model, headers));
  BenchReport report = {.version = MILLRACE_VERSION,
                        .processor = processor_name(),
                        .tier = std::string(name_of(active_isa())),
                        .model = {},
                        .numerics = plan.numerics,
                        .weights = {},
                        .rounds = plan.rounds,
                        .disk = {},
                        .ceilings = {},
                        .results = {}};
  const std::unique_ptr<Engine> engine =
      plan.load ? measure_loading(plan.model, options, std::min(plan.rounds, most_loads), plan.progress, report)
                : Engine::open(plan.model, options);
  report.model = model_name(*engine);
  report.weights = engine->weight_format() == WeightFormat::fp8 ? "fp8" : "bf16";
  compute(plan, *engine, report);
  if (plan.guesses) measure_guesses(*engine, *plan.guesses, plan.rounds, plan.progress, report);
  return report;
}

}  // namespace millrace
