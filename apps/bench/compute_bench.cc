#include "apps/bench/compute_bench.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "apps/bench/made_up.h"
#include "runtime/clock.h"

namespace millrace {

ComputeBench::ComputeBench(const Engine& engine) : engine_(engine), executor_(std::make_shared<Executor>(engine)) {}

std::uint64_t ComputeBench::bytes_for(const Engine& headers, std::int64_t batch, std::int64_t passes) {
  const MemoryPlan& plan = headers.plan();
  const auto rows = static_cast<std::uint64_t>(1 + passes + KvCache::page_rows);
  const std::uint64_t events = headers.program().steps().size() * static_cast<std::uint64_t>(passes + 1);
  return static_cast<std::uint64_t>(batch) * (plan.kv_fixed + plan.session_work + rows * plan.kv_per_token) +
         events * sizeof(Trace::Event);
}

const Session& ComputeBench::holding(std::int64_t depth) {
  if (held_ && held_->length() == depth) return *held_;
  held_.reset();
  held_.emplace(made_up_session(executor_, depth));
  return *held_;
}

double ComputeBench::run(const ComputeCase& what, const Parallel& parallel, Observer* observer) {
  std::vector<Session> sessions;
  for (std::int64_t i = 0; i < what.batch; ++i) sessions.push_back(holding(what.depth).fork());
  std::vector<SessionStep> steps(sessions.size());
  PassOptions options{.parallel = &parallel};
  const std::int64_t length = what.prompt > 0 ? what.prompt : 1, passes = what.generate + 1;
  const std::vector<std::int32_t> ids = made_up_tokens(engine_, length * what.batch * passes);
  Clock::time_point start = Clock::now();
  std::uint64_t misses = misses_so_far();
  for (std::int64_t pass = 0; pass < passes; ++pass) {
    if (pass == 1) {
      misses = misses_so_far();
      start = Clock::now();
    }
    if (pass == 1 || what.prompt > 0) options.observer = observer;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      const auto first = (static_cast<std::size_t>(pass) * sessions.size() + i) * static_cast<std::size_t>(length);
      steps[i] = {.session = &sessions[i], .tokens = std::span(ids).subspan(first, static_cast<std::size_t>(length))};
    }
    executor_->forward(steps, options);
  }
  const double seconds = seconds_since(start);
  const std::optional<ExpertCacheStats> stats = engine_.expert_stats();
  missed_bytes_ = stats ? static_cast<double>((stats->misses - misses) * stats->expert_bytes) : 0;
  return seconds;
}

std::uint64_t ComputeBench::misses_so_far() const {
  const std::optional<ExpertCacheStats> stats = engine_.expert_stats();
  return stats ? stats->misses : 0;
}

double ComputeBench::seconds_without_misses(const ComputeCase& what, const Parallel& parallel) {
  constexpr int tries = 24;
  constexpr std::size_t enough = 5;
  const std::vector<std::int32_t> ids = made_up_tokens(engine_, what.batch);
  std::vector<double> seconds;
  for (int i = 0; i < tries && seconds.size() < enough; ++i) {
    std::vector<Session> sessions;
    for (std::int64_t session = 0; session < what.batch; ++session) sessions.push_back(holding(what.depth).fork());
    std::vector<SessionStep> steps;
    for (std::size_t session = 0; session < sessions.size(); ++session)
      steps.push_back({.session = &sessions[session], .tokens = std::span(ids).subspan(session, 1)});
    const std::uint64_t misses = misses_so_far();
    const Clock::time_point start = Clock::now();
    executor_->forward(steps, {.parallel = &parallel});
    if (misses_so_far() == misses) seconds.push_back(seconds_since(start));
  }
  return Series{seconds}.median();
}

void ComputeBench::describe(const ComputeCase& what, const Parallel& parallel, BenchResult& result) {
  const std::int64_t chunks = what.prompt / engine_.chunk() + 1;
  Trace trace(engine_.program().steps().size() * static_cast<std::size_t>(what.generate + chunks));
  const double seconds = run(what, parallel, &trace);
  const double passes = what.prompt > 0 ? 1 : static_cast<double>(what.generate);
  // The passes of one prefill may share one reading of the weights.
  std::unordered_map<const Step*, double> read;
  std::unordered_map<std::string_view, Cost> costs;
  for (const Trace::Event& event : trace.events()) {
    Cost& cost = costs[event.step->op->kind()];
    double& before = read[event.step];
    double weights = event.cost.weight_bytes;
    if (what.prompt > 0) weights = std::max(0.0, weights - before);
    before += weights;
    cost.weight_bytes += weights;
    cost.cache_bytes += event.cost.cache_bytes;
    cost.flops += event.cost.flops;
  }
  for (const Trace::KindTotal& total : trace.kinds()) {
    const Cost& cost = costs[total.kind];
    BenchKind& kind = result.kinds.emplace_back();
    kind.kind = total.kind;
    kind.steps = static_cast<std::int64_t>(static_cast<double>(total.steps) / passes);
    kind.seconds = total.seconds / passes;
    kind.bytes = (cost.weight_bytes + cost.cache_bytes) / passes;
    kind.flops = cost.flops / passes;
    result.bytes += kind.bytes;
    result.flops += kind.flops;
  }
  std::sort(result.kinds.begin(), result.kinds.end(),
            [](const BenchKind& a, const BenchKind& b) { return a.seconds > b.seconds; });
  result.between_seconds = (seconds - trace.total().seconds) / passes;
}

}  // namespace millrace
