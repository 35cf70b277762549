#include "apps/bench/guess_bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "apps/bench/made_up.h"
#include "apps/common/options.h"
#include "model/generate.h"
#include "runtime/clock.h"
#include "runtime/error.h"

namespace millrace {
namespace {

struct Run {
  std::int64_t tokens = 0, passes = 0;
  double seconds = 0;
  double rate() const { return static_cast<double>(tokens) / seconds; }
};

// A text that grows from run to run, and what is learned on it of how many guesses pay. It begins anew where the
// context ends.
class Text {
 public:
  Text(const std::shared_ptr<Executor>& executor, int guesses, const GuessPlan& plan, std::int64_t depth)
      : vocab_(executor->engine().config().vocab),
        guesses_(guesses),
        depth_(depth),
        session_(made_up_session(executor, depth)),
        sampler_(sampling(executor->engine(), plan), vocab_, vocab_),
        history_(made_up_tokens(executor->engine(), depth + 1)) {
    if (!plan.accepted.empty()) acceptance_.emplace(plan.accepted);
  }

  // At least `tokens` more tokens.
  Run run(std::int64_t tokens) {
    Speculation speculation(session_, guesses_, sampler_);
    if (std::ssize(history_) + tokens + GuessPolicy::most_guesses > session_.engine().context()) {
      session_.truncate(depth_);
      history_.resize(static_cast<std::size_t>(depth_ + 1));
      pass(speculation);  // computes again what is held
    }
    Run run;
    const Clock::time_point start = Clock::now();
    for (; run.tokens < tokens; ++run.passes) run.tokens += pass(speculation);
    run.seconds = seconds_since(start);
    return run;
  }

 private:
  // Where guesses are made up the logits may be those of random weights: as likely as each other, so that finding the
  // likeliest of them (top-p) would take longer than in any text.
  static SamplingOptions sampling(const Engine& engine, const GuessPlan& plan) {
    return plan.accepted.empty() ? default_sampling(engine) : SamplingOptions();
  }

  // Returns the number of tokens it appends.
  std::int64_t pass(Speculation& speculation) {
    std::int64_t drawn = 0;
    speculation.pass(history_, GuessPolicy::most_guesses, sampler_, {}, [&](std::span<const float> logits) {
      history_.push_back(decide(sampler_.sample(logits, history_), speculation, static_cast<std::size_t>(drawn)));
      ++drawn;
      return true;
    });
    return drawn;
  }

  // What draw number `index` of a pass appends.
  std::int32_t decide(std::int32_t drawn, const Speculation& speculation, std::size_t index) {
    const auto guesses = speculation.guesses();
    if (!acceptance_ || index >= guesses.size()) return drawn;
    const std::int32_t guess = guesses[index];
    if (acceptance_->takes(index)) return guess;
    return drawn != guess ? drawn : (guess + 1) % static_cast<std::int32_t>(vocab_);
  }

  std::int64_t vocab_;
  int guesses_;
  std::optional<MadeUpAcceptance> acceptance_;
  std::int64_t depth_;
  Session session_;
  Sampler sampler_;
  std::vector<std::int32_t> history_;  // one token more than the session holds
};

constexpr std::int64_t reserved = 2 * (1 + GuessPolicy::most_guesses);  // of the context, for the ends of runs

std::string describe(const GuessPlan& plan) {
  const std::string guesses = plan.guesses == Speculation::automatic ? "auto" : fmt::format("{}", plan.guesses);
  return plan.accepted.empty() ? guesses : fmt::format("{}, accept {}", guesses, fmt::join(plan.accepted, ","));
}

}  // namespace

MadeUpAcceptance::MadeUpAcceptance(std::vector<double> accepted) : accepted_(std::move(accepted)) {
  double before = 1;
  for (const double share : accepted_) {
    require(share >= 0 && share <= before, Errc::bad_argument,
            "a share of {} of the guesses after one of {}, expected shares from 1 to 0 that do not rise", share,
            before);
    before = share;
  }
}

bool MadeUpAcceptance::takes(std::size_t index) {
  if (index >= accepted_.size()) return false;
  const double before = index == 0 ? 1 : accepted_[index - 1];
  return std::uniform_real_distribution<double>(0, before)(generator_) < accepted_[index];
}

void measure_guesses(const Engine& engine, const GuessPlan& plan, int rounds,
                     const std::function<void(const std::string& stage)>& progress, BenchReport& report) {
  require(!engine.mtp_programs().empty(), Errc::bad_argument, "{} has no prediction layers", model_name(engine));
  require(engine.context() > reserved, Errc::bad_argument, "a context of {} tokens, expected more than {} for guesses",
          engine.context(), reserved);
  const std::int64_t tokens = std::min(plan.tokens, engine.context() - reserved);
  const std::int64_t depth = std::min(plan.depth, engine.context() - reserved - tokens);
  const auto executor = std::make_shared<Executor>(engine);
  Text guessing(executor, plan.guesses, plan, depth), plain(executor, 0, plan, depth);
  BenchResult result = {.measure = "mtp", .threads = engine.parallel().threads(), .depth = depth, .unit = "tokens/s"};
  result.guesses = describe(plan);
  for (int round = 0; round <= rounds; ++round) {
    if (progress && round > 0) progress(fmt::format("guessing, round {} of {}", round, rounds));
    const Run without = plain.run(tokens), with = guessing.run(tokens);
    if (round == 0) continue;  // takes memory, and learns how many guesses pay
    result.rate.values.push_back(with.rate());
    result.plain_rate.values.push_back(without.rate());
    result.ratio.values.push_back(with.rate() / without.rate());
    result.tokens_per_pass.values.push_back(static_cast<double>(with.tokens) / static_cast<double>(with.passes));
  }
  report.results.push_back(std::move(result));
}

std::uint64_t guessing_bytes(const Engine& headers, const GuessPlan& plan, int rounds) {
  const MemoryPlan& memory = headers.plan();
  const auto grown = std::min((rounds + 1) * (plan.tokens + reserved), headers.context());
  const auto rows = static_cast<std::uint64_t>(grown + KvCache::page_rows);
  return memory.workspace + 2 * (memory.kv_fixed + memory.session_work + rows * memory.kv_per_token);
}

}  // namespace millrace
