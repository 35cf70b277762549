#include "loader/expert_policy.h"

#include <gtest/gtest.h>

#include "tests/support/random.h"

namespace millrace {
namespace {

constexpr std::int32_t experts[] = {0, 4, 4};

void step(ExpertPolicy& policy, int layer, std::initializer_list<int> used) {
  policy.pass(layer, 1);
  for (int expert : used) policy.use(layer, expert, 1);
}

TEST(FrequencyPolicy, FrequentOutweighsRecent) {
  FrequencyPolicy policy(experts);
  test::Random random(1);
  for (int i = 0; i < 600; ++i) {
    if (random.below(2) == 0)
      step(policy, 1, {0});
    else
      step(policy, 1, {random.below(20) == 0 ? 2 : 1});
  }
  step(policy, 1, {2});
  step(policy, 1, {1});
  EXPECT_GT(policy.worth(1, 0), policy.worth(1, 2));
  EXPECT_GT(policy.worth(1, 2), policy.worth(1, 3));
}

TEST(FrequencyPolicy, OldUsesFade) {
  FrequencyPolicy policy(experts);
  for (int i = 0; i < 100; ++i) step(policy, 1, {0});
  for (int i = 0; i < 2000; ++i) step(policy, 1, {1});
  step(policy, 1, {2});
  EXPECT_GT(policy.worth(1, 2), policy.worth(1, 0));
}

// The rows of other layers do not age an expert.
TEST(FrequencyPolicy, LayersHaveTheirOwnTime) {
  FrequencyPolicy policy(experts);
  step(policy, 1, {0});
  step(policy, 2, {0});
  const double worth = policy.worth(1, 0);
  for (int i = 0; i < 20; ++i) step(policy, 2, {0});
  EXPECT_EQ(policy.worth(1, 0), worth);
}

// Used alike, the expert whose layer comes next is worth most and the one whose layer has just passed least; layers
// without experts are no turn.
TEST(FrequencyPolicy, TheLayerJustPassedIsTheFarthest) {
  FrequencyPolicy policy(std::vector<std::int32_t>{0, 4, 0, 4, 4});
  for (int i = 0; i < 50; ++i)
    for (const int layer : {1, 3, 4}) step(policy, layer, {0});
  const double next = policy.worth(1, 0), after = policy.worth(3, 0), passed = policy.worth(4, 0);
  EXPECT_GT(next, after);
  EXPECT_GT(after, passed);
  step(policy, 1, {0});
  EXPECT_DOUBLE_EQ(policy.worth(3, 0), next);
}

// A pass of many rows counts about as much as passes of one.
TEST(FrequencyPolicy, ManyRowsCountAsManyPasses) {
  FrequencyPolicy one(experts), many(experts);
  for (int i = 0; i < 16; ++i) {
    if (i % 4 == 3)
      step(one, 1, {0, 1});
    else
      step(one, 1, {1});
  }
  many.pass(1, 16);
  many.use(1, 0, 4);
  many.use(1, 1, 16);
  EXPECT_NEAR(many.worth(1, 1), one.worth(1, 1), 1e-9);
  EXPECT_NEAR(many.worth(1, 0), one.worth(1, 0), 0.1);
}

// Strictly alternating experts: the one that was just used is the one that is not needed next.
TEST(FrequencyPolicy, LearnsWhatSaysWhatComesNext) {
  FrequencyPolicy policy(experts);
  for (int i = 0; i < 400; ++i) step(policy, 1, {i % 2});
  EXPECT_GT(policy.worth(1, 0), policy.worth(1, 1));
  step(policy, 1, {0});
  EXPECT_GT(policy.worth(1, 1), policy.worth(1, 0));
}

TEST(LruPolicy, TheLastUseCounts) {
  LruPolicy policy(experts);
  for (int i = 0; i < 50; ++i) step(policy, 1, {0});
  step(policy, 2, {3});
  step(policy, 1, {1});
  EXPECT_LT(policy.worth(1, 3), policy.worth(1, 0));
  EXPECT_LT(policy.worth(1, 0), policy.worth(2, 3));
  EXPECT_LT(policy.worth(2, 3), policy.worth(1, 1));
}

TEST(ExpertOffsets, CountThroughAllLayers) {
  const std::vector<std::size_t> offsets = expert_offsets(experts);
  EXPECT_EQ(offsets, (std::vector<std::size_t>{0, 0, 4, 8}));
}

}  // namespace
}  // namespace millrace
