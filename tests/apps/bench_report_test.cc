#include "apps/bench/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/bench/compare.h"
#include "tests/support/errors.h"

namespace millrace {
namespace {

BenchResult decode(std::int64_t batch, std::vector<double> rates) {
  BenchResult result{.measure = "decode", .threads = 2, .batch = batch, .depth = 4096, .unit = "tokens/s"};
  for (double rate : rates) result.fraction.values.push_back(rate / 100);
  result.rate.values = std::move(rates);
  result.kinds.push_back({.kind = "linear", .steps = 7, .seconds = 0.5, .bytes = 10, .ceiling_seconds = 0.25});
  result.between_seconds = 0.5;
  return result;
}

BenchReport report(std::vector<BenchResult> results) {
  return {.version = "1",
          .processor = "some processor",
          .tier = "avx2",
          .model = "tiny",
          .numerics = "fast",
          .weights = "fp8",
          .rounds = 3,
          .disk = "io_uring",
          .ceilings = {{.name = "read", .threads = 2, .unit = "GB/s", .rate = {{20, 30, 25}}}},
          .results = std::move(results)};
}

TEST(Series, MedianAndSpread) {
  const Series few{{3, 1, 2}};
  EXPECT_EQ(few.median(), 2);
  EXPECT_EQ(few.low(), 1);
  EXPECT_EQ(few.high(), 3);
  const Series many{{10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}};
  EXPECT_EQ(many.median(), 5);
  EXPECT_EQ(many.low(), 1);
  EXPECT_EQ(many.high(), 9);
  EXPECT_EQ(Series{}.median(), 0);
}

TEST(BenchReport, ReadsWhatItWrote) {
  const BenchReport before = report({decode(1, {10, 11, 12}), decode(4, {30})});
  const nlohmann::ordered_json json = bench_json(before);
  EXPECT_EQ(json["results"][0]["kinds"][0]["fraction"], 0.5);
  EXPECT_EQ(json["results"][0]["kinds"][0]["share"], 0.5);
  EXPECT_EQ(json["results"][0]["rate"]["median"], 11);
  const BenchReport after = parse_bench_json(json.dump(), "a.json");
  EXPECT_EQ(after.processor, before.processor);
  ASSERT_EQ(after.results.size(), 2u);
  EXPECT_EQ(after.results[0].title(), "decode, 2 threads, batch 1, depth 4096");
  EXPECT_EQ(after.results[0].rate.values, before.results[0].rate.values);
  EXPECT_EQ(after.ceilings[0].rate.values, before.ceilings[0].rate.values);
}

TEST(BenchReport, StreamedExpertsHaveTheirOwnBest) {
  BenchResult streamed = decode(1, {10, 11, 12});
  EXPECT_EQ(bench_text(report({streamed})).find("streamed experts"), std::string::npos);
  streamed.to_read.values = {0.021, 0.022, 0.023};
  streamed.to_compute.values = {0.031, 0.032, 0.033};
  const std::string text = bench_text(report({streamed}));
  for (const char* part : {"streamed experts", "22.0", "32.0"}) EXPECT_NE(text.find(part), std::string::npos) << text;
  nlohmann::ordered_json json = bench_json(report({streamed}));
  const BenchReport after = parse_bench_json(json.dump(), "a.json");
  EXPECT_EQ(after.results[0].to_read.values, streamed.to_read.values);
  EXPECT_EQ(after.results[0].to_compute.values, streamed.to_compute.values);
  for (const char* key : {"to_read", "to_compute"}) json["results"][0].erase(key);
  EXPECT_TRUE(parse_bench_json(json.dump(), "a.json").results[0].to_read.values.empty());
}

TEST(BenchReport, GuessesAreComparedWithNone) {
  BenchResult guessing{.measure = "mtp", .threads = 2, .unit = "tokens/s", .guesses = "auto, accept 0.8,0.6"};
  guessing.rate.values = {24, 26};
  guessing.plain_rate.values = {20, 20};
  guessing.ratio.values = {1.2, 1.3};
  guessing.tokens_per_pass.values = {1.75, 1.77};
  const BenchReport before = report({guessing});
  const std::string text = bench_text(before);
  for (const char* part : {"mtp, 2 threads, auto, accept 0.8,0.6", "20.0 tokens/s", "1.76 tokens/pass", "1.25  1.20"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  const BenchResult after = parse_bench_json(bench_json(before).dump(), "a.json").results.at(0);
  EXPECT_EQ(after.title(), guessing.title());
  EXPECT_EQ(after.ratio.values, guessing.ratio.values);
  EXPECT_EQ(after.plain_rate.values, guessing.plain_rate.values);
  EXPECT_EQ(after.tokens_per_pass.values, guessing.tokens_per_pass.values);
}

TEST(BenchReport, RefusesOtherFiles) {
  for (const char* text : {"", "{}", "[]", R"({"format": "else"})", R"({"format": "millrace-bench-1", "version": 1})"})
    EXPECT_NE(test::error_of(Errc::bad_file, [&] { parse_bench_json(text, "a.json"); }).find("a.json"),
              std::string::npos);
}

TEST(BenchReport, TablesNameEverything) {
  const std::string text = bench_text(report({decode(1, {10, 11, 12})}));
  for (const char* part : {"some processor", "read, 2 threads", "decode, 2 threads, batch 1, depth 4096", "0.11",
                           "linear", "between steps"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

TEST(BenchCompare, TellsChangesFromNoise) {
  const BenchReport before =
      report({decode(1, {10, 10.1, 10.2}), decode(2, {10, 11, 12}), decode(4, {10, 10.1, 10.2}), decode(8, {5})});
  const BenchReport after =
      report({decode(1, {12, 12.1, 12.2}), decode(2, {10.5, 11.5, 12.5}), decode(4, {9, 9.1, 9.2}), decode(16, {5})});
  const BenchComparison comparison = compare_bench(before, after);
  ASSERT_EQ(comparison.changes.size(), 3u);
  EXPECT_EQ(comparison.changes[0].verdict, BenchVerdict::faster);
  EXPECT_NEAR(comparison.changes[0].ratio, 12.1 / 10.1, 1e-12);
  EXPECT_EQ(comparison.changes[1].verdict, BenchVerdict::same);
  EXPECT_EQ(comparison.changes[2].verdict, BenchVerdict::slower);
  EXPECT_EQ(comparison.only_before.size(), 1u);
  EXPECT_EQ(comparison.only_after.size(), 1u);
  EXPECT_TRUE(comparison.warnings.empty());
  const std::string text = comparison_text(comparison);
  EXPECT_NE(text.find("slower"), std::string::npos) << text;
  EXPECT_NE(text.find("decode, 2 threads, batch 8, depth 4096: only before"), std::string::npos) << text;
}

TEST(BenchCompare, WarnsOfAnotherMachine) {
  BenchReport other = report({});
  other.processor = "another";
  EXPECT_EQ(compare_bench(report({}), other).warnings.size(), 1u);
}

}  // namespace
}  // namespace millrace
