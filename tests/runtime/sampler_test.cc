#include "runtime/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "runtime/error.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Logits = std::vector<float>;

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

Sampler sampler_of(const SamplingOptions& options, const Logits& logits) {
  const auto vocab = static_cast<std::int64_t>(logits.size());
  return Sampler(options, vocab, vocab);
}

std::vector<int> counts(const SamplingOptions& options, const Logits& logits, int draws,
                        const std::vector<std::int32_t>& history = {}) {
  Sampler sampler = sampler_of(options, logits);
  std::vector<int> count(logits.size());
  for (int i = 0; i < draws; ++i) ++count[static_cast<std::size_t>(sampler.sample(logits, history))];
  return count;
}

// Ids that occur among many draws.
std::vector<std::size_t> support(const SamplingOptions& options, const Logits& logits,
                                 const std::vector<std::int32_t>& history = {}) {
  std::vector<std::size_t> ids;
  const auto count = counts(options, logits, 4000, history);
  for (std::size_t id = 0; id < count.size(); ++id)
    if (count[id] > 0) ids.push_back(id);
  return ids;
}

double chi_square(const std::vector<int>& count, const std::vector<double>& probability) {
  double total = 0, sum = 0;
  for (int n : count) total += n;
  for (std::size_t i = 0; i < count.size(); ++i) {
    const double expected = total * probability[i];
    if (expected > 0) sum += (count[i] - expected) * (count[i] - expected) / expected;
  }
  return sum;
}

std::vector<double> softmax(const Logits& logits, double temperature) {
  std::vector<double> probability;
  double sum = 0;
  for (float logit : logits) sum += probability.emplace_back(std::exp(double{logit} / temperature));
  for (double& p : probability) p /= sum;
  return probability;
}

Logits logits_of(std::initializer_list<double> probabilities) {
  Logits logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const Logits logits = {1.5f, -0.5f, 0.0f, 2.0f, -2.0f, 0.25f};
  for (float temperature : {0.5f, 1.0f, 2.0f})
    for (std::uint64_t seed : {0u, 1u, 2u, 12345u}) {
      const auto count = counts({.temperature = temperature, .seed = seed}, logits, 20000);
      // 5 degrees of freedom: one draw in 10,000 exceeds 25.7, and the seeds are fixed.
      EXPECT_LT(chi_square(count, softmax(logits, double{temperature})), 25.7) << temperature << " " << seed;
    }
}

TEST(Sampler, TheKeptTokensAreRenormalized) {
  const auto count = counts({.top_k = 3, .seed = 5}, logits_of({0.1, 0.4, 0.2, 0.05, 0.25}), 20000);
  EXPECT_LT(chi_square(count, {0, 0.4 / 0.85, 0.2 / 0.85, 0, 0.25 / 0.85}), 18.5);
}

TEST(Sampler, SeedsGiveTheSameDrawsEverywhere) {
  const Logits logits(1000, 0.5f);
  Sampler sampler = sampler_of({.seed = 42}, logits), again = sampler_of({.seed = 42}, logits);
  Sampler other = sampler_of({.seed = 43}, logits);
  std::vector<std::int32_t> drawn, repeated, different;
  for (int i = 0; i < 6; ++i) {
    drawn.push_back(sampler.sample(logits, {}));
    repeated.push_back(again.sample(logits, {}));
    different.push_back(other.sample(logits, {}));
  }
  // Uniform weights: the ids are floor(1000 u) of splitmix64 seeded with 42.
  EXPECT_THAT(drawn, ElementsAre(741, 159, 278, 344, 38, 868));
  EXPECT_EQ(repeated, drawn);
  EXPECT_NE(different, drawn);
}

TEST(Sampler, GreedyTakesTheLowestIdOfTheLargest) {
  const Logits logits = {1, 3, -2, 3, 3};
  EXPECT_THAT(support({.temperature = 0}, logits), ElementsAre(1));
  EXPECT_THAT(support({.top_k = 1}, logits), ElementsAre(1));
  EXPECT_THAT(support({.top_p = 0}, logits), ElementsAre(1));
  EXPECT_THAT(support({.temperature = 1e-30f}, {1, 3, 2.999f}), ElementsAre(1));
  EXPECT_THAT(support({.temperature = 0}, {-inf, -inf, -7}), ElementsAre(2));
}

TEST(Sampler, TopK) {
  const Logits logits = {0, 1, 2, 1, 0};
  EXPECT_THAT(support({.top_k = 0}, logits), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(support({.top_k = 2}, logits), ElementsAre(1, 2));
  EXPECT_THAT(support({.top_k = 3}, logits), ElementsAre(1, 2, 3));
  EXPECT_THAT(support({.top_k = 5}, logits), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(support({.top_k = 500}, logits), ElementsAre(0, 1, 2, 3, 4));
}

TEST(Sampler, TopP) {
  const Logits logits = logits_of({0.1, 0.4, 0.2, 0.05, 0.25});
  EXPECT_THAT(support({.top_p = 0.39f}, logits), ElementsAre(1));
  EXPECT_THAT(support({.top_p = 0.41f}, logits), ElementsAre(1, 4));
  EXPECT_THAT(support({.top_p = 0.84f}, logits), ElementsAre(1, 2, 4));
  EXPECT_THAT(support({.top_p = 0.94f}, logits), ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(support({.top_p = 1}, logits), ElementsAre(0, 1, 2, 3, 4));
  // Of what top-k leaves: 0.4 / 0.65 exceeds 0.6.
  EXPECT_THAT(support({.top_p = 0.6f, .top_k = 2}, logits), ElementsAre(1));
}

TEST(Sampler, MinP) {
  const Logits logits = logits_of({0.1, 0.4, 0.2, 0.05, 0.25});
  EXPECT_THAT(support({.min_p = 0.2f}, logits), ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(support({.min_p = 0.51f}, logits), ElementsAre(1, 4));
  EXPECT_THAT(support({.min_p = 1}, logits), ElementsAre(1));
  // The temperature comes first.
  EXPECT_THAT(support({.temperature = 0.5f, .min_p = 0.2f}, logits), ElementsAre(1, 2, 4));
}

TEST(Sampler, RepetitionPenalty) {
  const SamplingOptions greedy = {.temperature = 0, .repetition_penalty = 2};
  EXPECT_THAT(support(greedy, {3, 2, 1}), ElementsAre(0));
  EXPECT_THAT(support(greedy, {3, 2, 1}, {0}), ElementsAre(1));
  EXPECT_THAT(support(greedy, {-1, -1.5f, -3}, {0}), ElementsAre(1));
  EXPECT_THAT(support(greedy, {3, 1.4f, 1}, {0, 0, 0}), ElementsAre(0));  // once, however often it occurred
  EXPECT_THAT(support({.temperature = 0}, {3, 2, 1}, {0}), ElementsAre(0));
}

TEST(Sampler, OnlyDefinedOrAllowedIds) {
  const Logits logits = {1, 5, 1, 9};
  Sampler padded({.temperature = 0}, 4, 3);
  EXPECT_EQ(padded.sample(logits, {}), 1);
  const std::array<bool, 4> mask = {true, false, true, false};
  Sampler masked({.seed = 3}, mask);
  std::map<std::int32_t, int> count;
  for (int i = 0; i < 1000; ++i) ++count[masked.sample(logits, {})];
  EXPECT_EQ(count.size(), 2u);
  EXPECT_EQ(count[0] + count[2], 1000);
  // What may not be drawn may be anything.
  EXPECT_EQ(padded.sample(Logits{1, 5, 1, nan}, {}), 1);
}

TEST(Sampler, LargeVocabularyMatchesAPlainSort) {
  test::Random random(61);
  const Logits logits = random.normals(20000, 3);
  const auto probability = softmax(logits, 0.7);
  std::vector<std::int32_t> order;
  for (std::int32_t id = 0; id < 20000; ++id) order.push_back(id);
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)]; });
  double sum = 0;
  std::size_t kept = 0;
  while (sum < 0.5) sum += probability[static_cast<std::size_t>(order[kept++])];
  order.resize(kept);
  Sampler sampler = sampler_of({.temperature = 0.7f, .top_p = 0.5f, .seed = 1}, logits);
  for (int i = 0; i < 300; ++i) EXPECT_THAT(order, testing::Contains(sampler.sample(logits, {})));
}

void expect_refused(const char* words, const auto& action) {
  try {
    action();
    ADD_FAILURE() << "accepted: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::bad_argument);
    EXPECT_THAT(error.what(), HasSubstr(words));
  }
}

TEST(Sampler, NamesTheBadOption) {
  for (float bad : {-1.0f, nan, inf}) {
    expect_refused("temperature is ", [&] { validate({.temperature = bad}); });
    expect_refused("top_p is ", [&] { validate({.top_p = bad}); });
    expect_refused("min_p is ", [&] { validate({.min_p = bad}); });
    expect_refused("repetition_penalty is ", [&] { validate({.repetition_penalty = bad}); });
  }
  expect_refused("repetition_penalty is 0", [] { validate({.repetition_penalty = 0}); });
  expect_refused("top_k is -1", [] { Sampler({.top_k = -1}, 4, 4); });
  expect_refused("temperature is -1, expected", [] { Sampler({.temperature = -1}, 4, 4); });
  expect_refused("vocab is 0", [] { Sampler({}, 0, 0); });
  expect_refused("defined ids are 5", [] { Sampler({}, 4, 5); });
  expect_refused("none of the 2 ids", [] { Sampler({}, std::array<bool, 2>{}); });
}

TEST(Sampler, NamesTheBadLogit) {
  for (float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature, .repetition_penalty = 2}, 4, 4);
    expect_refused("the logit of token 2 is nan", [&] { sampler.sample(Logits{0, 1, nan, 2}, {}); });
    expect_refused("the logit of token 3 is inf", [&] { sampler.sample(Logits{0, 1, 2, inf}, {}); });
    expect_refused("all 4 allowed tokens are -inf", [&] { sampler.sample(Logits(4, -inf), {}); });
    expect_refused("got 3 logits, expected 4", [&] { sampler.sample(Logits(3), {}); });
    expect_refused("token id 4 of the history", [&] { sampler.sample(Logits(4), std::array{4}); });
    expect_refused("token id -1 of the history", [&] { sampler.sample(Logits(4), std::array{-1}); });
  }
}

TEST(Sampler, BiasesAreAddedBeforeThePenalty) {
  const Logits logits = {1, 2, 3, 0};
  EXPECT_EQ(counts({.temperature = 0, .logit_bias = {{0, 2.5f}}}, logits, 1), (std::vector<int>{1, 0, 0, 0}));
  EXPECT_EQ(support({.logit_bias = {{3, -inf}, {1, -inf}}}, logits), (std::vector<std::size_t>{0, 2}));
  // (1 + 3) / 2 is below 3; the penalty halves what the bias made, once.
  EXPECT_EQ(counts({.temperature = 0, .repetition_penalty = 2, .logit_bias = {{0, 3}}}, logits, 1, {0, 0}),
            (std::vector<int>{0, 0, 1, 0}));
  const std::vector<int> count = counts({.logit_bias = {{1, 1}, {2, -1}}}, logits, 20000);
  EXPECT_LT(chi_square(count, softmax({1, 3, 2, 0}, 1)), 21);
}

TEST(Sampler, RefusesImpossibleBiases) {
  const auto refuse = [](std::vector<LogitBias> biases) {
    EXPECT_THROW(Sampler({.logit_bias = std::move(biases)}, 4, 4), Error);
  };
  refuse({{4, 1}});
  refuse({{-1, 1}});
  refuse({{1, nan}});
  refuse({{1, inf}});
  refuse({{1, 1}, {2, 1}, {1, 2}});
}

TEST(Sampler, ForbiddenIdsAndMasksHoldForOneStep) {
  const Logits logits = {1, 2, 5, 4};
  Sampler sampler = sampler_of({.temperature = 0}, logits);
  const std::vector<std::int32_t> history = {7, 8}, forbidden = {2, 99, -1};
  EXPECT_EQ(sampler.sample(logits, {}, {.forbidden = forbidden}), 3);
  std::vector<std::int32_t> seen;
  const LogitMask mask = [&](std::span<const std::int32_t> ids, std::span<float> scores) {
    seen.assign(ids.begin(), ids.end());
    EXPECT_THAT(std::vector<float>(scores.begin(), scores.end()), ElementsAre(1, 2, -inf, 4));
    scores[3] = -inf;
  };
  EXPECT_EQ(sampler.sample(logits, history, {.forbidden = forbidden, .mask = &mask}), 1);
  EXPECT_EQ(seen, history);
  EXPECT_EQ(sampler.sample(logits, history), 2);
  const LogitMask none = [](auto, std::span<float> scores) { std::fill(scores.begin(), scores.end(), -inf); };
  EXPECT_THROW(sampler.sample(logits, {}, {.mask = &none}), Error);
  const LogitMask broken = [](auto, std::span<float> scores) { scores[1] = nan; };
  EXPECT_THROW(sampler.sample(logits, {}, {.mask = &broken}), Error);
}

TEST(Sampler, FollowsTheRandomNumbersOfAnother) {
  const std::vector<float> logits(50, 1.0f);
  Sampler sampler({.seed = 3}, 50, 50), follower = sampler;
  for (int i = 0; i < 20; ++i) {
    follower.follow(sampler);
    const std::int32_t guess = follower.sample(logits, {});
    follower.sample(logits, {});
    EXPECT_EQ(sampler.sample(logits, {}), guess);
  }
}

}  // namespace
}  // namespace millrace
