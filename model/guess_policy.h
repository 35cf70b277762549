// GuessPolicy: how many tokens to guess before the next pass. Pure bookkeeping over what earlier passes took and gave;
// results never depend on it, only time does. Used by one thread.
//
// It guesses as many tokens as promise the most tokens per second, by running estimates of each guess's chance and of
// the time a pass with so many guesses takes. Where none pays it tries again now and then, twice as rarely after each
// disappointment, and never so often that what was lost exceeds a small part of the time so far.
#pragma once

#include <array>
#include <cstdint>

namespace millrace {

class GuessPolicy {
 public:
  static constexpr int most_guesses = 8;

  // The number of guesses for the next pass, 0 to `most` (at most most_guesses).
  int choose(int most) noexcept;

  // A pass with `guesses` guesses, of which the first `accepted` came true, took `seconds`, the guessing included.
  // catch_up_seconds: what the layers needed before that because they had not been asked for long.
  void record(int guesses, int accepted, double seconds, double catch_up_seconds) noexcept;

  // Seconds of a pass without guesses, or 0 before there was one.
  double plain_seconds() const noexcept { return seconds_[0].value; }

 private:
  // A mean at first, later a moving one.
  struct Estimate {
    double value = 0;
    std::int64_t samples = 0;
    void add(double sample, double weight) noexcept;
  };

  double expected_seconds(int guesses) const noexcept;
  int best(int most) const noexcept;
  void account(int guesses, int accepted, double seconds, double catch_up_seconds) noexcept;

  std::array<Estimate, most_guesses + 1> seconds_;  // by guesses
  std::array<Estimate, most_guesses> chances_;  // of a guess once those before it came true, without samples: unknown
  double elapsed_ = 0;                          // seconds of all passes
  double lost_ = 0;                             // seconds that guessing cost more than it saved
  double trial_loss_ = 0;                       // of that, in the last pass with guesses
  std::int64_t since_plain_ = 0;                // passes with guesses in a row
  std::int64_t since_trial_ = 0, pause_ = 0;    // passes without guesses in a row, and how many there shall be
                                                // before a trial: none after one that paid
};

}  // namespace millrace
