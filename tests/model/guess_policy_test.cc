// The policy in a simulated world: a pass over r rows takes known time and guesses come true with known chances.
#include "model/guess_policy.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/random.h"

namespace millrace {
namespace {

struct World {
  double row_seconds = 0.3;    // of each row beside the first, which takes 1
  double guess_seconds = 0.1;  // of each guess
  double catch_up = 0;         // after passes without guesses
  double noise = 0;            // times vary by so much
  double chance = 0.5;         // of the first guess
  double fading = 1;           // what each later guess's chance, once those before it came true, is of the last one's
};

struct Outcome {
  double seconds = 0;
  std::int64_t guesses = 0;
};

// Time for `tokens` tokens; without guesses each would take 1 second.
Outcome simulate(GuessPolicy& policy, const World& world, std::int64_t tokens, std::uint64_t seed) {
  test::Random random(seed);
  const auto uniform = [&] { return static_cast<double>(random.below(1 << 20)) / (1 << 20); };
  Outcome outcome;
  for (bool behind = true; tokens > 0;) {
    const int guesses = policy.choose(static_cast<int>(std::min<std::int64_t>(3, tokens - 1)));
    int accepted = 0;
    for (double chance = world.chance; accepted < guesses && uniform() < chance; chance *= world.fading) ++accepted;
    const double work = 1 + guesses * (world.row_seconds + world.guess_seconds);
    const double seconds = work * (1 + world.noise * (uniform() - 0.5));
    const double catch_up = guesses > 0 && behind ? world.catch_up : 0;
    behind = guesses == 0;
    policy.record(guesses, accepted, seconds, catch_up);
    outcome.seconds += seconds + catch_up;
    outcome.guesses += guesses;
    tokens -= 1 + accepted;
  }
  return outcome;
}

TEST(GuessPolicy, NoneWithoutRoomOrBeforeAPlainPass) {
  GuessPolicy policy;
  EXPECT_EQ(policy.plain_seconds(), 0);
  EXPECT_EQ(policy.choose(3), 0);
  policy.record(0, 0, 1, 0);
  EXPECT_EQ(policy.plain_seconds(), 1);
  policy.record(0, 0, 1, 0);
  EXPECT_GT(policy.choose(3), 0);
  EXPECT_EQ(policy.choose(0), 0);
  EXPECT_EQ(policy.choose(-1), 0);
  EXPECT_LE(policy.choose(100), GuessPolicy::most_guesses);
}

TEST(GuessPolicy, GuessesAllWhenTheyComeTrue) {
  double sum = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    GuessPolicy policy;
    const Outcome outcome = simulate(policy, {.catch_up = 2, .noise = 0.1, .chance = 0.95}, 300, seed);
    EXPECT_LT(outcome.seconds, 300 * 1.02 + 3) << seed;  // even where the first ones do not
    sum += outcome.seconds;
  }
  // Three guesses give 3.7 tokens in 2.2 seconds.
  EXPECT_LT(sum / 50, 300 * 0.7);
}

TEST(GuessPolicy, LosesLittleWhereItDoesNotPay) {
  for (double chance : {0.0, 0.1, 0.25})
    for (double catch_up : {0.0, 3.0})
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        GuessPolicy policy;
        const World world = {.row_seconds = 0.6, .catch_up = catch_up, .noise = 0.1, .chance = chance};
        EXPECT_LT(simulate(policy, world, 250, seed).seconds, 250 * 1.02 + catch_up) << chance << " " << catch_up;
        EXPECT_LT(simulate(policy, world, 4000, seed).seconds, 4000 * 1.015) << chance << " " << catch_up;
      }
}

// Time for a token with always so many guesses, where one without takes 1 second.
double fixed_seconds(const World& world, int guesses) {
  double tokens = 1, together = 1, chance = world.chance;
  for (int n = 0; n < guesses; ++n, chance *= world.fading) tokens += together *= chance;
  return (1 + guesses * (world.row_seconds + world.guess_seconds)) / tokens;
}

// Also where the differences are small beside what passes vary by, and one number of guesses too many costs more than
// guessing saves.
TEST(GuessPolicy, IsNearTheBestFixedNumber) {
  for (const World& world : {World{.row_seconds = 0.45, .catch_up = 0.3, .noise = 0.2, .chance = 0.8, .fading = 0.9},
                             World{.row_seconds = 0.45, .catch_up = 0.3, .noise = 0.2, .chance = 0.9},
                             World{.row_seconds = 0.45, .catch_up = 0.3, .noise = 0.2, .chance = 0.8, .fading = 0.3},
                             World{.row_seconds = 0.1, .catch_up = 0.3, .noise = 0.2, .chance = 0.5},
                             World{.row_seconds = 0.1, .catch_up = 0.3, .noise = 0.2, .chance = 0.35, .fading = 0.5},
                             World{.row_seconds = 0.45, .catch_up = 0.3, .noise = 0.2, .chance = 0.5}}) {
    double best = 1, sum = 0;
    for (int guesses = 1; guesses <= 3; ++guesses) best = std::min(best, fixed_seconds(world, guesses));
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      GuessPolicy policy;
      sum += simulate(policy, world, 1500, seed).seconds / 1500;
    }
    EXPECT_LT(sum / 40, 1.025 * best) << world.chance << " " << world.fading;
  }
}

TEST(GuessPolicy, NoticesThatTheTextChanged) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    GuessPolicy policy;
    const World hopeless = {.catch_up = 1, .chance = 0.1}, easy = {.catch_up = 1, .chance = 0.95};
    simulate(policy, hopeless, 500, seed);
    EXPECT_LT(simulate(policy, easy, 1500, seed).seconds, 1500 * 0.85) << seed;
    EXPECT_LT(simulate(policy, hopeless, 1500, seed).seconds, 1500 * 1.02 + 12) << seed;
  }
}

// One pass that the machine held up does not decide anything.
TEST(GuessPolicy, SurvivesAHeldUpPass) {
  GuessPolicy policy;
  simulate(policy, {.chance = 0.95}, 50, 1);
  policy.record(3, 3, 100, 0);
  EXPECT_LT(simulate(policy, {.chance = 0.95}, 200, 2).seconds, 200 * 0.75);
}

}  // namespace
}  // namespace millrace
