#include "apps/bench/guess_bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/errors.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

std::unique_ptr<Engine> demo(EngineOptions options = {.context = 256, .mtp_layers = 3}) {
  options.threads = 1;
  return Engine::open(test::source_dir() + "/apps/demo/millrace-demo", options);
}

BenchResult measured(const Engine& engine, const GuessPlan& plan, int rounds = 2) {
  BenchReport report;
  measure_guesses(engine, plan, rounds, {}, report);
  EXPECT_EQ(report.results.size(), 1u);
  return report.results.at(0);
}

TEST(MadeUpAcceptance, TakesTheSharesOfAllPasses) {
  MadeUpAcceptance acceptance({0.8, 0.6, 0});
  constexpr int passes = 20000;
  int taken[4] = {};
  for (int pass = 0; pass < passes; ++pass)
    for (std::size_t index = 0; index < 4 && acceptance.takes(index); ++index) ++taken[index];
  EXPECT_NEAR(taken[0], 0.8 * passes, 4 * std::sqrt(passes));
  EXPECT_NEAR(taken[1], 0.6 * passes, 4 * std::sqrt(passes));
  EXPECT_EQ(taken[2], 0);
  EXPECT_EQ(taken[3], 0);
}

TEST(MadeUpAcceptance, RefusesOtherShares) {
  for (const auto& shares : {std::vector<double>{1.5}, {-0.1}, {0.5, 0.6}, {std::nan("")}})
    EXPECT_NE(test::error_of(Errc::bad_argument, [&] { MadeUpAcceptance{shares}; }).find("do not rise"),
              std::string::npos);
}

TEST(GuessBench, MadeUpGuessesComeTrueAsOftenAsAsked) {
  const auto engine = demo();
  const BenchResult all = measured(*engine, {.guesses = 3, .accepted = {1, 1, 1}, .tokens = 32});
  EXPECT_EQ(all.tokens_per_pass.values, (std::vector<double>{4, 4}));
  EXPECT_EQ(measured(*engine, {.guesses = 3, .accepted = {1}, .tokens = 32}).tokens_per_pass.median(), 2);
  EXPECT_EQ(measured(*engine, {.guesses = 3, .accepted = {0}, .tokens = 32}).tokens_per_pass.median(), 1);
  EXPECT_EQ(all.title(), "mtp, 1 thread, 3, accept 1,1,1");
  EXPECT_EQ(all.rate.values.size(), 2u);
  for (std::size_t round = 0; round < 2; ++round)
    EXPECT_DOUBLE_EQ(all.ratio.values[round], all.rate.values[round] / all.plain_rate.values[round]);
}

// The texts are longer than what the context still holds, and depths than the context.
TEST(GuessBench, TextsBeginAnewWhereTheContextEnds) {
  const auto engine = demo({.context = 80, .mtp_layers = 2});
  EXPECT_EQ(measured(*engine, {.guesses = 2, .accepted = {1, 1}, .depth = 20, .tokens = 30}, 4).depth, 20);
  EXPECT_GT(measured(*engine, {.guesses = 2, .depth = 1 << 20, .tokens = 1 << 20}).tokens_per_pass.median(), 0.9);
}

TEST(GuessBench, RefusesModelsWithoutLayers) {
  const auto engine = demo({.context = 64});
  EXPECT_NE(test::error_of(Errc::bad_argument, [&] { measured(*engine, {.guesses = 1}); }).find("prediction layers"),
            std::string::npos);
  EXPECT_NE(test::error_of(Errc::bad_argument, [&] { measured(*engine, {}); }).find("prediction layers"),
            std::string::npos);
  const auto tiny = demo({.context = 8, .mtp_layers = 1});
  EXPECT_NE(test::error_of(Errc::bad_argument, [&] { measured(*tiny, {}); }).find("context of 8"), std::string::npos);
}

}  // namespace
}  // namespace millrace
