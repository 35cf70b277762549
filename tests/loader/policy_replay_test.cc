#include "loader/policy_replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/errors.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

void add(RoutingTrace& trace, std::initializer_list<int> experts) {
  std::vector<ExpertUse> uses;
  for (int expert : experts) uses.push_back({expert, 1});
  trace.add(0, 1, uses);
}

std::int64_t hits(const RoutingTrace& trace, std::int64_t slots, ExpertPolicy&& policy) {
  const ReplayResult result = replay(trace, slots, policy);
  EXPECT_EQ(replay(trace, slots, policy, trace.size()).hits, 0);
  return result.hits;
}

// A loop one longer than the cache: the last used is what LRU always throws away too early.
TEST(PolicyReplay, BeladyKnowsTheFuture) {
  RoutingTrace trace({4});
  for (int i = 0; i < 12; ++i) add(trace, {i % 4});
  EXPECT_EQ(hits(trace, 3, LruPolicy(trace.experts())), 0);
  EXPECT_EQ(hits(trace, 3, BeladyPolicy(trace)), 6);
  EXPECT_EQ(hits(trace, 4, LruPolicy(trace.experts())), 8);
}

TEST(PolicyReplay, WhatAPassNeedsStays) {
  RoutingTrace trace({8});
  for (int i = 0; i < 4; ++i) {
    add(trace, {0, 1});
    add(trace, {2, 3});
  }
  EXPECT_EQ(hits(trace, 4, LruPolicy(trace.experts())), 12);
  // More at a time than there are slots: those still to come stay.
  RoutingTrace all({4});
  for (int i = 0; i < 3; ++i) add(all, {0, 1, 2, 3});
  EXPECT_EQ(hits(all, 3, BeladyPolicy(all)), 4);
  EXPECT_EQ(hits(all, 1, BeladyPolicy(all)), 0);
  LruPolicy policy(all.experts());
  test::error_of(Errc::bad_argument, [&] { replay(all, 0, policy); });
}

// 12 layers of 64 experts, 4 for a row: each layer likes some experts more, and what a text is about changes.
RoutingTrace drifting(std::uint64_t seed, float liking, float topic, float noise, int tokens) {
  constexpr int layers = 12, experts = 64, top_k = 4;
  test::Random random(seed);
  RoutingTrace trace(std::vector<std::int32_t>(layers, experts));
  std::vector<float> base = random.normals(layers * experts), drift = random.normals(layers * experts);
  for (int token = 0; token < tokens; ++token)
    for (int layer = 0; layer < layers; ++layer) {
      std::vector<std::pair<float, int>> scores;
      for (int expert = 0; expert < experts; ++expert) {
        const auto at = static_cast<std::size_t>(layer * experts + expert);
        drift[at] = 0.97f * drift[at] + std::sqrt(1 - 0.97f * 0.97f) * random.normal();
        scores.emplace_back(-(liking * base[at] + topic * drift[at] + noise * random.normal()), expert);
      }
      std::partial_sort(scores.begin(), scores.begin() + top_k, scores.end());
      std::vector<ExpertUse> uses;
      for (int i = 0; i < top_k; ++i) uses.push_back({scores[static_cast<std::size_t>(i)].second, 1});
      std::sort(uses.begin(), uses.end(), [](const auto& a, const auto& b) { return a.expert < b.expert; });
      trace.add(layer, 1, uses);
    }
  return trace;
}

// Two layers of one token: what the second asks for is known, what the next token does only by its frequency.
TEST(PolicyReplay, TheInformedKnowThePassUnderWay) {
  RoutingTrace trace({4, 4});
  const auto pass = [&](int first, int second) {
    trace.add(0, 1, std::vector<ExpertUse>{{first, 1}});
    trace.add(1, 1, std::vector<ExpertUse>{{second, 1}});
  };
  for (const int second : {0, 1, 0, 0}) pass(0, second);
  InformedPolicy policy(trace);
  policy.pass(0, 1);
  EXPECT_GT(policy.worth(1, 0), policy.worth(0, 0));  // comes now; every token, but later
  EXPECT_GT(policy.worth(0, 0), policy.worth(1, 1));
  EXPECT_EQ(policy.worth(1, 3), 0);
  policy.pass(1, 1);
  policy.pass(0, 1);
  EXPECT_GT(policy.worth(1, 1), policy.worth(1, 0));
}

// Frequency with recency is never worse than LRU, whether texts keep to their subject or not, and Belady is the limit.
TEST(PolicyReplay, FrequencyBeatsLru) {
  for (const auto& [liking, topic, noise] : {std::array{1.0f, 0.0f, 1.0f}, {0.0f, 1.0f, 0.5f}, {0.5f, 1.0f, 1.0f}}) {
    const RoutingTrace trace = drifting(7, liking, topic, noise, 250);
    for (const double share : {0.05, 0.1, 0.2, 0.4}) {
      const auto slots = static_cast<std::int64_t>(share * static_cast<double>(trace.total_experts()));
      FrequencyPolicy frequency(trace.experts());
      LruPolicy lru(trace.experts());
      BeladyPolicy belady(trace);
      const double ours = replay(trace, slots, frequency).hit_rate(), limit = replay(trace, slots, belady).hit_rate();
      EXPECT_GE(ours, replay(trace, slots, lru).hit_rate() - 0.005) << liking << " " << topic << " " << share;
      InformedPolicy informed(trace);
      const double known = replay(trace, slots, informed).hit_rate();
      EXPECT_LE(ours, known);
      EXPECT_LE(known, limit);
    }
  }
}

}  // namespace
}  // namespace millrace
