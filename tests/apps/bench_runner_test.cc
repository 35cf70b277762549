#include "apps/bench/runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "apps/bench/op_table.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

std::string demo() {
  return test::source_dir() + "/apps/demo/millrace-demo";
}

TEST(Bench, MeasuresEverythingAskedFor) {
  const BenchPlan plan = {.model = demo(),
                          .engine = {},
                          .numerics = "fast",
                          .threads = {1, 2},
                          .prompts = {16, 16},
                          .batches = {1, 2},
                          .depths = {0, 40},
                          .generate = 2,
                          .rounds = 2,
                          .read_bytes = 1 << 25};
  const BenchReport report = run_bench(plan);
  std::set<std::string> titles;
  for (const BenchResult& result : report.results) {
    titles.insert(result.title());
    EXPECT_EQ(result.rate.values.size(), 2u);
    EXPECT_GT(result.rate.median(), 0) << result.title();
    EXPECT_TRUE(std::isfinite(result.fraction.median())) << result.title();
    EXPECT_GT(result.bytes, 0);
    if (result.measure == "load") continue;
    EXPECT_GT(result.fraction.median(), 0) << result.title();
    double flops = 0;
    for (const BenchKind& kind : result.kinds) flops += kind.flops;
    EXPECT_NEAR(flops, result.flops, 1e-6 * flops);
  }
  EXPECT_EQ(titles,
            (std::set<std::string>{"load, 2 threads", "prefill, 1 thread, 16 tokens", "prefill, 2 threads, 16 tokens",
                                   "decode, 1 thread, batch 1, depth 0", "decode, 2 threads, batch 1, depth 0",
                                   "decode, 1 thread, batch 2, depth 0", "decode, 2 threads, batch 2, depth 0",
                                   "decode, 1 thread, batch 1, depth 40", "decode, 2 threads, batch 1, depth 40"}));
  for (const BenchCeiling& ceiling : report.ceilings) EXPECT_GT(ceiling.rate.median(), 0) << ceiling.name;
}

TEST(Bench, ADeeperCacheIsMoreToRead) {
  const BenchPlan plan = {.model = demo(),
                          .engine = {},
                          .numerics = "fast",
                          .threads = {1},
                          .batches = {1},
                          .depths = {1, 101},
                          .generate = 1,
                          .rounds = 1,
                          .load = false,
                          .read_bytes = 1 << 25};
  const BenchReport report = run_bench(plan);
  ASSERT_EQ(report.results.size(), 2u);
  EXPECT_GT(report.results[1].bytes, report.results[0].bytes);
  // 2048 tokens, of which one is computed before the clock starts and one after.
  BenchPlan deep = plan;
  deep.depths = {1 << 20, 1 << 21};
  const BenchReport cut = run_bench(deep);
  ASSERT_EQ(cut.results.size(), 1u);
  EXPECT_EQ(cut.results[0].depth, 2046);
}

// A cache of a few experts: what is missing, and what the disk gives for it, bound the result.
TEST(Bench, StreamedExpertsAreMeasuredAgainstTheDisk) {
  const BenchPlan plan = {.model = demo(),
                          .engine = {.expert_cache_bytes = 3 << 20},
                          .numerics = "fast",
                          .threads = {1},
                          .prompts = {16},
                          .batches = {1},
                          .depths = {0},
                          .generate = 8,
                          .rounds = 1,
                          .load = false,
                          .read_bytes = 1 << 25};
  const BenchReport report = run_bench(plan);
  ASSERT_EQ(report.results.size(), 2u);
  for (const BenchResult& result : report.results) {
    ASSERT_EQ(result.to_read.values.size(), 1u) << result.title();
    EXPECT_GT(result.to_read.median(), 0) << result.title();
    EXPECT_GT(result.to_compute.median(), 0) << result.title();
    EXPECT_GT(result.fraction.median(), 0) << result.title();
  }
  EXPECT_TRUE(std::any_of(report.ceilings.begin(), report.ceilings.end(),
                          [](const BenchCeiling& ceiling) { return ceiling.name == "disk, experts at random"; }));
}

TEST(OpTable, ListsTheShapesOfTheModel) {
  const std::string table = op_table(demo(), {}, {1}, 1);
  for (const char* kind : {"linear fp8", "linear bf16", "expert_mlp", "gqa_attention", "rms_norm"})
    EXPECT_NE(table.find(kind), std::string::npos) << table;
}

}  // namespace
}  // namespace millrace
