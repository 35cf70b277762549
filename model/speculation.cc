#include "model/speculation.h"

#include <algorithm>

#include "runtime/clock.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// Takes what was appended to a list away again, come what may.
class Scratch {
 public:
  explicit Scratch(std::vector<std::int32_t>& list) : list_(list), size_(list.size()) {}
  ~Scratch() { list_.resize(size_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  std::vector<std::int32_t>& list_;
  std::size_t size_;
};

}  // namespace

Speculation::Speculation(Session& session, int guesses, const Sampler& sampler)
    : session_(session), drafter_(session.drafter()), wanted_(guesses), guesser_(sampler) {
  const int layers = drafter_ != nullptr ? drafter_->layers() : 0;
  require(guesses >= automatic && guesses <= layers, Errc::bad_argument,
          "{} guesses per pass, but {} prediction layers are loaded", guesses, layers);
  stats_.layers.resize(static_cast<std::size_t>(layers));
  guesses_.reserve(static_cast<std::size_t>(layers));
}

int Speculation::choose(std::int64_t most) const {
  if (drafter_ == nullptr || !drafter_->ready() || wanted_ == 0) return 0;
  // The token that is due takes one more position.
  const std::int64_t positions = session_.engine().config().max_positions - 2 - session_.positions().back();
  const int layers = static_cast<int>(std::clamp<std::int64_t>(std::min(most, positions), 0, drafter_->layers()));
  if (wanted_ == automatic) return session_.guess_policy().choose(layers);
  // The first pass tells what one without guesses takes.
  return session_.guess_policy().plain_seconds() > 0 ? std::min(wanted_, layers) : 0;
}

void Speculation::guess(std::vector<std::int32_t>& history, int count, const Sampler& sampler, Observer* observer) {
  const Clock::time_point start = Clock::now();
  guesses_.clear();
  catch_up_seconds_ = 0;
  if (count == 0) return;
  drafter_->catch_up(count, history, observer);
  catch_up_seconds_ = seconds_since(start);
  guesser_.follow(sampler);
  for (int index = 0; index < count; ++index) {
    guesses_.push_back(guesser_.sample(drafter_->guess(index, history, observer), history));
    history.push_back(guesses_.back());
  }
  stats_.guess_seconds += seconds_since(start);
}

void Speculation::pass(std::vector<std::int32_t>& history, std::int64_t most, const Sampler& sampler,
                       ForwardOptions options, const Draw& draw) {
  std::span<const float> logits;
  {
    const Scratch scratch(history);
    const Clock::time_point start = Clock::now();
    guess(history, choose(most), sampler, options.observer);
    options.logits_rows = 1 + std::ssize(guesses_);
    logits = session_.forward(std::span(history).last(1 + guesses_.size()), options);
    seconds_ = seconds_since(start) - catch_up_seconds_;
  }
  const std::size_t vocab = logits.size() / (1 + guesses_.size());
  std::size_t accepted = 0;
  const auto cut = [&] {
    session_.truncate(session_.length() - std::ssize(guesses_) + static_cast<std::int64_t>(accepted));
  };
  try {
    while (draw(logits.subspan(accepted * vocab, vocab)) && accepted < guesses_.size() &&
           history.back() == guesses_[accepted])
      ++accepted;
  } catch (...) {
    cut();
    throw;
  }
  cut();
  record(static_cast<int>(accepted));
}

void Speculation::record(int accepted) {
  const int guesses = static_cast<int>(guesses_.size());
  GuessPolicy& policy = session_.guess_policy();
  policy.record(guesses, accepted, seconds_, catch_up_seconds_);
  if (guesses == 0) return;
  ++stats_.passes;
  for (int index = 0; index < guesses; ++index) {
    SpeculationStats::Layer& layer = stats_.layers[static_cast<std::size_t>(index)];
    ++layer.guesses;
    if (index < accepted) ++layer.accepted;
  }
  if (policy.plain_seconds() > 0)
    stats_.saved_seconds =
        stats_.saved_seconds.value_or(0) + policy.plain_seconds() * (1 + accepted) - seconds_ - catch_up_seconds_;
}

}  // namespace millrace
