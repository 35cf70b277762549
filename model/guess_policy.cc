#include "model/guess_policy.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr double share_lost = 0.01;       // of the time so far that may be lost to trials
constexpr double passes_lost = 2;         // and so many passes' time at the start
constexpr double passes_saved = 10;       // gains that count against later losses
constexpr std::int64_t first_plain = 2;   // passes that tell what one without guesses takes
constexpr std::int64_t plain_every = 64;  // passes with guesses, after which that is measured again
constexpr std::int64_t first_pause = 32, longest_pause = 512;
constexpr double chance_before = 0.7;       // of a guess nothing is known of
constexpr std::int64_t before_samples = 2;  // that this weighs as much as
constexpr double seconds_before = 0.5;      // what a guess adds to a pass, of its time, before that is measured
constexpr double chance_weight = 0.03, seconds_weight = 0.2;

}  // namespace

void GuessPolicy::Estimate::add(double sample, double weight) noexcept {
  ++samples;
  value += std::max(weight, 1.0 / static_cast<double>(samples)) * (sample - value);
}

// What was not measured lies on the line through a pass without guesses and the nearest one measured.
double GuessPolicy::expected_seconds(int guesses) const noexcept {
  const double plain = seconds_[0].value;
  const auto at = [this](int n) { return seconds_[static_cast<std::size_t>(n)]; };
  if (at(guesses).samples > 0) return at(guesses).value;
  for (int step = 1; step <= most_guesses; ++step)
    for (int n : {guesses - step, guesses + step})
      if (n > 0 && n <= most_guesses && at(n).samples > 0) return plain + (at(n).value - plain) * guesses / n;
  return plain * (1 + seconds_before * guesses);
}

int GuessPolicy::best(int most) const noexcept {
  double next = chance_before, chance = 1, tokens = 1, best_rate = 1 / plain_seconds();
  int best = 0;
  for (int n = 1; n <= most; ++n) {
    const Estimate& known = chances_[static_cast<std::size_t>(n - 1)];
    if (known.samples > 0)
      next = known.value;
    else if (n > 1 && chances_[static_cast<std::size_t>(n - 2)].samples == 0)
      break;  // one unknown at a time
    chance *= next;
    tokens += chance;
    const double rate = tokens / expected_seconds(n);
    if (rate <= best_rate) continue;
    best_rate = rate;
    best = n;
  }
  return best;
}

int GuessPolicy::choose(int most) noexcept {
  most = std::min(most, most_guesses);
  const double plain = plain_seconds();
  if (most <= 0 || seconds_[0].samples < first_plain || since_plain_ >= plain_every) return 0;
  // Another trial may cost what the last one did.
  const bool affordable = lost_ + trial_loss_ <= share_lost * elapsed_ + passes_lost * plain;
  if (!affordable && pause_ > 0) return 0;
  if (const int pays = best(most); pays > 0) return pays;
  return since_trial_ >= pause_ ? 1 : 0;
}

void GuessPolicy::account(int guesses, int accepted, double seconds, double catch_up_seconds) noexcept {
  const double plain = plain_seconds();
  elapsed_ += seconds + catch_up_seconds;
  if (guesses == 0) {
    since_plain_ = 0;
    ++since_trial_;
    return;
  }
  const double loss = seconds + catch_up_seconds - plain * (1 + accepted);
  lost_ = std::max(lost_ + loss, -passes_saved * plain);
  trial_loss_ = std::max(loss, 0.0);
  ++since_plain_;
  since_trial_ = 0;
  const bool paid = seconds < plain * (1 + accepted);
  pause_ = paid ? 0 : std::clamp(2 * pause_, first_pause, longest_pause);
}

void GuessPolicy::record(int guesses, int accepted, double seconds, double catch_up_seconds) noexcept {
  Estimate& time = seconds_[static_cast<std::size_t>(guesses)];
  // Of a pass that was held up only so much is believed.
  const double believed = time.samples > 0 ? std::min(seconds, 2 * time.value) : seconds;
  time.add(believed, seconds_weight);
  for (int n = 0; n < std::min(accepted + 1, guesses); ++n) {
    Estimate& chance = chances_[static_cast<std::size_t>(n)];
    if (chance.samples == 0) chance = {chance_before, before_samples};
    chance.add(n < accepted ? 1 : 0, chance_weight);
  }
  account(guesses, accepted, believed, catch_up_seconds);
}

}  // namespace millrace
