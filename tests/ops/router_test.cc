#include "ops/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "runtime/error.h"
#include "runtime/run_inputs.h"
#include "tests/oracle/router.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using Ids = std::vector<std::int32_t>;

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

struct Result {
  Ids ids;
  std::vector<float> weights;
};

Result run(Isa isa, const RouterOptions& options, const std::vector<float>& bias, const std::vector<float>& logits,
           int threads = 1) {
  const test::WithIsa with(isa);
  const auto rows = static_cast<std::int64_t>(logits.size()) / options.experts;
  Result result{Ids(static_cast<std::size_t>(rows * options.top_k)),
                std::vector<float>(static_cast<std::size_t>(rows * options.top_k))};
  test::run_op(Router(options, bias), rows, {logits.data()}, {result.ids.data(), result.weights.data()}, threads);
  return result;
}

// A score is within 5 units (exp 3, sum and quotient 1 each); so is the sum of top_k scores, with one more per
// addition; the quotient and the scale round once each.
double tolerance(std::int64_t top_k) {
  return (5 + 5 + static_cast<double>(top_k) + 3.01) * test::f32_unit;
}

const std::vector<RouterOptions> layouts = {
    {.experts = 256, .top_k = 8, .scale = 1},
    {.experts = 256, .top_k = 8, .groups = 8, .top_groups = 4, .scale = 2.5f},
    {.experts = 37, .top_k = 5, .normalize = false},
    {.experts = 33, .top_k = 7, .groups = 3, .top_groups = 1, .norm_floor = 0},
    {.experts = 1, .top_k = 1},
    {.experts = 17, .top_k = 17},
};

TEST(Router, MatchesTheOracleOnEveryTier) {
  test::Random random(51);
  for (const RouterOptions& options : layouts)
    for (bool biased : {false, true})
      for (int row = 0; row < 20; ++row) {
        const auto logits = random.normals(options.experts, 2);
        const auto bias = biased ? random.normals(options.experts, 0.2f) : std::vector<float>{};
        const auto want = oracle::router(options, bias, logits);
        if (want.margin < 1e-6) continue;  // closer than fp32 tells apart
        for (Isa isa : test::present_tiers()) {
          const Result got = run(isa, options, bias, logits);
          EXPECT_EQ(got.ids, want.ids);
          test::expect_close(got.weights, want.weights, tolerance(options.top_k), "weights");
        }
      }
}

TEST(Router, SameBitsOnEveryTierAndThreadCount) {
  test::Random random(52);
  for (const RouterOptions& options : layouts) {
    auto logits = random.normals(41 * options.experts, 3);
    const auto bias = random.normals(options.experts, 0.1f);
    for (std::size_t i = 0; i < logits.size(); i += 7) logits[i] = std::round(logits[i]);  // ties
    const std::vector<float> special = {nan, inf, -inf, 200, -200, -90};
    for (std::size_t i = 0; i < special.size(); ++i) logits[i * logits.size() / 6] = special[i];
    const Result want = run(Isa::scalar, options, bias, logits);
    for (Isa isa : test::present_tiers())
      for (int threads : {1, 2, 3, 5}) {
        const Result got = run(isa, options, bias, logits, threads);
        EXPECT_EQ(got.ids, want.ids);
        test::expect_same_bits(got.weights, want.weights, name_of(isa).data());
      }
  }
}

TEST(Router, TiesGoToTheLowerId) {
  for (Isa isa : test::present_tiers()) {
    const RouterOptions plain = {.experts = 20, .top_k = 3};
    EXPECT_THAT(run(isa, plain, {}, std::vector<float>(20, 0.5f)).ids, ElementsAre(0, 1, 2));
    std::vector<float> logits(20, 0.5f);
    logits[19] = 1, logits[5] = 0.75f, logits[7] = 0.75f;
    EXPECT_THAT(run(isa, {.experts = 20, .top_k = 2}, {}, logits).ids, ElementsAre(5, 19));
    const RouterOptions grouped = {.experts = 20, .top_k = 3, .groups = 5, .top_groups = 2};
    EXPECT_THAT(run(isa, grouped, {}, std::vector<float>(20, 0.5f)).ids, ElementsAre(0, 1, 2));
  }
}

TEST(Router, TheBiasChoosesButDoesNotWeigh) {
  const RouterOptions options = {.experts = 4, .top_k = 2, .normalize = false};
  for (Isa isa : test::present_tiers()) {
    const Result got = run(isa, options, {0, 9, 0, 9}, {3, 0, 3, 0});
    EXPECT_THAT(got.ids, ElementsAre(1, 3));
    EXPECT_THAT(got.weights, ElementsAre(0.5f, 0.5f));
  }
}

// Experts of dropped groups stay out even where every kept one has a negative choice value.
TEST(Router, DroppedGroupsAreBelowNegativeValues) {
  const RouterOptions options = {.experts = 8, .top_k = 4, .groups = 4, .top_groups = 2};
  const std::vector<float> bias = {-5, -5, -3, -3, -5, -5, -3, -3};
  for (Isa isa : test::present_tiers())
    EXPECT_THAT(run(isa, options, bias, std::vector<float>(8, 0.0f)).ids, ElementsAre(2, 3, 6, 7));
  // One outstanding expert does not carry its group: the two best count.
  const RouterOptions one = {.experts = 4, .top_k = 2, .groups = 2, .top_groups = 1};
  EXPECT_THAT(run(Isa::scalar, one, {1.0f, -2.0f, 0.2f, 0.2f}, {0, 0, 0, 0}).ids, ElementsAre(2, 3));
}

TEST(Router, NaNIsTheLowestAndIdsStayValid) {
  for (Isa isa : test::present_tiers()) {
    EXPECT_THAT(run(isa, {.experts = 4, .top_k = 2}, {}, {nan, -9, nan, -8}).ids, ElementsAre(1, 3));
    const Result short_of_numbers = run(isa, {.experts = 4, .top_k = 3}, {}, {-nan, -9, nan, -8});
    EXPECT_THAT(short_of_numbers.ids, ElementsAre(0, 1, 3));
    for (float weight : short_of_numbers.weights) EXPECT_TRUE(std::isnan(weight));
    for (const RouterOptions& options : layouts) {
      const Result got = run(isa, options, {}, std::vector<float>(static_cast<std::size_t>(options.experts), nan));
      const std::set<std::int32_t> distinct(got.ids.begin(), got.ids.end());
      EXPECT_EQ(distinct.size(), got.ids.size());
      EXPECT_GE(*distinct.begin(), 0);
      EXPECT_LT(*distinct.rbegin(), options.experts);
    }
  }
}

TEST(Router, VanishingScoresGiveZeroWeights) {
  for (Isa isa : test::present_tiers())
    EXPECT_THAT(run(isa, {.experts = 4, .top_k = 2}, {}, std::vector<float>(4, -inf)).weights, ElementsAre(0.0f, 0.0f));
}

TEST(Router, RefusesImpossibleOptions) {
  const auto refused = [](const RouterOptions& options, std::vector<float> bias, const char* word) {
    try {
      Router router(options, std::move(bias));
      ADD_FAILURE() << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_argument);
      EXPECT_THAT(error.what(), testing::HasSubstr(word));
    }
  };
  refused({.experts = 0, .top_k = 1}, {}, "experts");
  refused({.experts = 8, .top_k = 9}, {}, "top_k");
  refused({.experts = 8, .top_k = 0}, {}, "top_k");
  refused({.experts = 8, .top_k = 3, .groups = 4, .top_groups = 1}, {}, "top_k");
  refused({.experts = 8, .top_k = 1, .groups = 3}, {}, "groups");
  refused({.experts = 8, .top_k = 1, .groups = 0}, {}, "groups");
  refused({.experts = 8, .top_k = 1, .groups = 8}, {}, "groups");
  refused({.experts = 8, .top_k = 1, .groups = 2, .top_groups = 3}, {}, "top_groups");
  refused({.experts = 8, .top_k = 1, .norm_floor = -1}, {}, "norm_floor");
  refused({.experts = 8, .top_k = 1, .scale = nan}, {}, "scale");
  refused({.experts = 8, .top_k = 1}, {1, 2}, "correction bias");
  refused({.experts = 2, .top_k = 1}, {1, nan}, "expert 1");
}

TEST(Router, ForcedExpertsGetTheWeightsOfTheirOwnLogits) {
  test::Random random(58);
  for (RouterOptions options : layouts) {
    options.layer = 4;
    const auto logits = random.normals(6 * options.experts, 2), bias = random.normals(options.experts, 0.2f);
    const Result chosen = run(active_isa(), options, bias, logits);
    const auto top_k = static_cast<std::size_t>(options.top_k);
    Ids others;  // of the next row, so that they are not the row's own
    for (std::size_t row = 1; row <= 3; ++row)
      others.insert(others.end(), chosen.ids.begin() + static_cast<std::ptrdiff_t>(row * top_k),
                    chosen.ids.begin() + static_cast<std::ptrdiff_t>((row + 1) * top_k));
    const std::vector<float> given(3 * top_k, 0.25f);
    for (const float* weights : {static_cast<const float*>(nullptr), given.data()}) {
      const ForcedExperts forced[] = {{.layer = 3}, {.layer = 4, .ids = others.data(), .weights = weights}};
      const RunInputs inputs{.forced = forced};
      Batch batch;
      batch.runs = {{nullptr, 0, 1}, {nullptr, 1, 4, &inputs}, {nullptr, 4, 6}};
      Result got = {Ids(chosen.ids.size()), std::vector<float>(chosen.weights.size())};
      test::run_op(Router(options, bias), 6, {logits.data()}, {got.ids.data(), got.weights.data()}, 2, batch);
      for (std::size_t row = 0; row < 6; ++row)
        for (std::size_t i = row * top_k; i < (row + 1) * top_k; ++i) {
          const bool own = row == 0 || row > 3;
          ASSERT_EQ(got.ids[i], own ? chosen.ids[i] : others[i - top_k]);
          if (own || weights != nullptr) {
            ASSERT_EQ(got.weights[i], own ? chosen.weights[i] : 0.25f);
          }
        }
      if (weights != nullptr) continue;
      for (std::size_t row = 1; row <= 3; ++row) {
        double sum = 0;
        std::vector<double> scores;
        for (std::size_t i = row * top_k; i < (row + 1) * top_k; ++i) {
          const std::size_t at = row * static_cast<std::size_t>(options.experts) + static_cast<std::size_t>(got.ids[i]);
          scores.push_back(1 / (1 + std::exp(-double{logits[at]})));
          sum += scores.back();
        }
        for (std::size_t i = 0; i < top_k; ++i)
          EXPECT_NEAR(got.weights[row * top_k + i],
                      scores[i] * double{options.scale} / (options.normalize ? sum + double{options.norm_floor} : 1),
                      tolerance(options.top_k) * 3);
      }
    }
  }
}

TEST(Router, RefusesForcedExpertsThatAreNot) {
  const std::vector<float> logits(8, 0.5f);
  const Ids wrong = {1, 8};
  const ForcedExperts forced[] = {{.layer = 0, .ids = wrong.data()}};
  const RunInputs inputs{.forced = forced};
  Batch batch;
  batch.runs = {{nullptr, 0, 1, &inputs}};
  Result got = {Ids(2), std::vector<float>(2)};
  EXPECT_THROW(test::run_op(Router({.experts = 8, .top_k = 2}, {}), 1, {logits.data()},
                            {got.ids.data(), got.weights.data()}, 1, batch),
               Error);
}

}  // namespace
}  // namespace millrace
