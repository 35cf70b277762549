#include "model/generate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>

#include "loader/detokenizer.h"
#include "loader/tokenizer.h"
#include "model/stop_strings.h"
#include "runtime/error.h"
#include "runtime/observer.h"

namespace millrace {
namespace {

// Ends a pass between two steps when the caller asks for it.
class InterruptObserver final : public Observer {
 public:
  explicit InterruptObserver(const std::function<bool()>& interrupted) : interrupted_(interrupted) {}
  void before(const Program&, const Step&) override {
    if (interrupted_()) fail(Errc::cancelled, "interrupted");
  }
  void after(const Program&, const Step&, const StepContext&) override {}

 private:
  const std::function<bool()>& interrupted_;
};

Sampler make_sampler(const Engine& engine, const SamplingOptions& options) {
  const std::int64_t vocab = engine.config().vocab;
  if (!engine.has_tokenizer()) return Sampler(options, vocab, vocab);
  const auto allowed = std::make_unique<bool[]>(static_cast<std::size_t>(vocab));
  for (std::int64_t id = 0; id < vocab; ++id) allowed[static_cast<std::size_t>(id)] = engine.tokenizer().is_defined(id);
  return Sampler(options, std::span<const bool>(allowed.get(), static_cast<std::size_t>(vocab)));
}

class Stopwatch {
 public:
  // Seconds since the last call, or the construction.
  double lap() {
    const Clock::time_point before = std::exchange(start_, Clock::now());
    return std::chrono::duration<double>(start_ - before).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// One call of generate().
class Generation {
 public:
  Generation(Session& session, const GenerateOptions& options, const std::function<bool(std::string_view)>& on_text)
      : session_(session),
        engine_(session.engine()),
        options_(options),
        on_text_(on_text),
        sampler_(make_sampler(engine_, options.sampling)),
        speculation_(session, options.use_cache ? options.guesses : 0, sampler_),
        stops_(options.stop),
        interrupt_(options.interrupted),
        observers_(observers_of(options)) {
    if (engine_.has_tokenizer()) detokenizer_.emplace(engine_.tokenizer(), /*skip_special=*/true);
    if (options.interrupted || options.observer != nullptr) forward_.observer = &observers_;
    forward_.use_cache = options.use_cache;
  }

  GenerateResult run(std::span<const std::int32_t> prompt) {
    try {
      Stopwatch watch;
      history_.assign(session_.tokens().begin(), session_.tokens().end());
      history_.insert(history_.end(), prompt.begin(), prompt.end());
      std::span<const float> logits = session_.forward(prompt, forward_);
      result_.timings.prompt_seconds = watch.lap();
      std::optional<FinishReason> reason = draw(logits);
      while (!reason) {
        const std::int64_t most = std::min(options_.max_tokens - std::ssize(result_.ids), room()) - 1;
        speculation_.pass(history_, most, sampler_, forward_, [&](std::span<const float> row) {
          reason = draw(row);
          return !reason;
        });
        ++result_.timings.passes;
      }
      finish(*reason);
      result_.timings.generate_seconds = watch.lap();
    } catch (const Error& error) {
      if (error.code() != Errc::cancelled) throw;
      finish(FinishReason::interrupted);
    }
    result_.speculation = speculation_.stats();
    return std::move(result_);
  }

 private:
  std::vector<Observer*> observers_of(const GenerateOptions& options) {
    std::vector<Observer*> observers;
    if (options.interrupted) observers.push_back(&interrupt_);
    if (options.observer != nullptr) observers.push_back(options.observer);
    return observers;
  }

  // Draws one token. Returns why the generation ends with it, if it does.
  std::optional<FinishReason> draw(std::span<const float> logits) {
    StepLimits limits{.mask = &options_.mask};
    if (std::ssize(result_.ids) < options_.min_tokens) limits.forbidden = engine_.stop_ids();
    const std::int32_t id = sampler_.sample(logits, history_, limits);
    history_.push_back(id);
    result_.ids.push_back(id);
    const auto& stop_ids = engine_.stop_ids();
    if (!options_.ignore_eos && std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end())
      return FinishReason::stop;
    if (detokenizer_ && !show(stops_.push(detokenizer_->push(id)))) return FinishReason::interrupted;
    if (stops_.stopped()) return FinishReason::stop_string;
    if (std::ssize(result_.ids) >= options_.max_tokens || room() < 1) return FinishReason::length;
    return std::nullopt;
  }

  // Tokens that the session can still take: it will hold all of the history but its last token.
  std::int64_t room() const { return engine_.context() - (std::ssize(history_) - 1); }

  bool show(const std::string& text) {
    result_.text += text;
    return text.empty() || !on_text_ || on_text_(text);
  }

  void finish(FinishReason reason) {
    if (detokenizer_ && !stops_.stopped()) {
      std::string rest = stops_.push(detokenizer_->flush());
      show(rest + stops_.flush());
    }
    result_.finish_reason = reason;
  }

  Session& session_;
  const Engine& engine_;
  const GenerateOptions& options_;
  const std::function<bool(std::string_view)>& on_text_;
  Sampler sampler_;
  Speculation speculation_;
  std::optional<Detokenizer> detokenizer_;
  StopStrings stops_;
  InterruptObserver interrupt_;
  ObserverList observers_;
  ForwardOptions forward_;
  std::vector<std::int32_t> history_;
  GenerateResult result_;
};

}  // namespace

std::string_view name_of(FinishReason reason) noexcept {
  constexpr std::array<std::string_view, 4> names = {"stop", "length", "stop_string", "interrupted"};
  return names[static_cast<std::size_t>(reason)];
}

SamplingOptions default_sampling(const Engine& engine) {
  const GenerationConfig& config = engine.generation();
  return {.temperature = config.temperature,
          .top_p = config.top_p,
          .min_p = config.min_p,
          .top_k = config.top_k,
          .repetition_penalty = config.repetition_penalty};
}

GenerateResult generate(Session& session, std::span<const std::int32_t> prompt, const GenerateOptions& options,
                        const std::function<bool(std::string_view)>& on_text) {
  const std::int64_t held = session.length(), context = session.engine().context();
  require(options.max_tokens >= 0, Errc::bad_argument, "max_tokens is {}, expected 0 or more", options.max_tokens);
  require(options.min_tokens >= 0 && (options.min_tokens == 0 || options.min_tokens <= options.max_tokens),
          Errc::bad_argument, "min_tokens is {}, expected 0 to {} (max_tokens)", options.min_tokens,
          options.max_tokens);
  require(!prompt.empty(), Errc::bad_argument, "the prompt is empty, expected at least one token");
  require(held + std::ssize(prompt) <= context, Errc::bad_argument,
          "the prompt has {} tokens{}, but the context holds {}", prompt.size(),
          held > 0 ? fmt::format(" after {} of the session", held) : "", context);
  Generation generation(session, options, on_text);
  return options.max_tokens == 0 ? GenerateResult{} : generation.run(prompt);
}

}  // namespace millrace
