// What is planned before loading; memory_promise_test.cc is about keeping to it.
#include "model/memory_plan.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "loader/checkpoint.h"
#include "model/engine.h"
#include "model/session.h"
#include "model/speed_estimate.h"
#include "model/synthetic.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::uint64_t gibi = std::uint64_t{1} << 30;

std::unique_ptr<Engine> planned(const fs::path& folder, EngineOptions options = {}) {
  options.threads = 1;
  options.headers_only = options.absent_shards = true;
  return Engine::open(folder, options);
}

fs::path golden(const char* name) {
  return fs::path(test::golden_dir()) / "models" / name;
}

// A sparse folder of the published sizes.
fs::path full_model(const test::TempFolder& folder, const char* family) {
  const SyntheticModel model = synthetic_model({.family = family, .shape = "full"});
  write_synthetic(model, folder.path() / family, {.mtp_layers = 0, .sparse = true, .free_bytes = UINT64_MAX});
  return folder.path() / family;
}

TEST(MemoryPlan, CountsWhatLoadingTakes) {
  for (const char* name : {"mimo-basic", "mimo-odd", "mimo-fused-qkv", "mimo-mxfp4", "minimax-basic"})
    for (WeightFormat format : {WeightFormat::fp8, WeightFormat::bf16}) {
      const auto loaded = Engine::open(golden(name), {.threads = 1, .weights = format});
      const auto plan = planned(golden(name), {.weights = format})->plan();
      EXPECT_EQ(loaded->plan().weights.total(), plan.weights.total()) << name;
      EXPECT_EQ(loaded->plan().experts.resident_bytes, plan.experts.resident_bytes) << name;
      EXPECT_GT(plan.weights.attention, 0u);
      EXPECT_GT(plan.weights.head, 0u);
      EXPECT_GT(plan.weights.routers_and_norms, 0u);
      EXPECT_GE(plan.total(), plan.weights.total() + plan.experts.resident_bytes + plan.kv() + plan.workspace);
    }
}

TEST(MemoryPlan, PredictionLayersAndWhatTheyWorkWithCount) {
  const auto without = planned(golden("mimo-basic"))->plan(),
             with = planned(golden("mimo-basic"), {.mtp_layers = 3})->plan();
  EXPECT_EQ(without.weights.mtp, 0u);
  EXPECT_GT(with.weights.mtp, 0u);
  EXPECT_GT(with.session_work, without.session_work);
  EXPECT_EQ(with.weights.total() - with.weights.mtp, without.weights.total());
}

TEST(MemoryPlan, FilesThatAreAbsentArePlannedByTheIndex) {
  for (const char* family : {"mimo_v2_flash", "minimax_m2"}) {
    const test::TempFolder folder;
    const fs::path path = full_model(folder, family);
    const EngineOptions options{.memory = 32 * gibi, .context = 8192};
    const MemoryPlan there = planned(path, options)->plan();
    std::vector<fs::path> shards;
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().extension() == ".safetensors") shards.push_back(entry.path());
    for (const fs::path& shard : shards) fs::remove(shard);
    const auto engine = planned(path, options);
    const MemoryPlan& absent = engine->plan();
    EXPECT_EQ(engine->checkpoint().absent_files(), std::ssize(shards));
    // Norms may be stored wider than the index can tell, scales be more where heads have grids of their own.
    EXPECT_NEAR(static_cast<double>(absent.weights.attention), static_cast<double>(there.weights.attention),
                1e-5 * static_cast<double>(there.weights.attention))
        << family;
    EXPECT_EQ(absent.weights.dense_mlp, there.weights.dense_mlp) << family;
    EXPECT_EQ(absent.weights.embedding, there.weights.embedding) << family;
    EXPECT_EQ(absent.experts.file_bytes, there.experts.file_bytes) << family;
    EXPECT_EQ(absent.kv(), there.kv()) << family;
    EXPECT_EQ(absent.workspace, there.workspace) << family;
  }
}

TEST(MemoryPlan, OfTheFullSizeOnASmallMachine) {
  const test::TempFolder folder;
  const fs::path path = full_model(folder, "mimo_v2_flash");
  const auto engine = planned(path, {.memory = 24 * gibi});
  const MemoryPlan& plan = engine->plan();
  EXPECT_EQ(plan.experts.count, 47 * 256);
  EXPECT_FALSE(plan.experts.resident);
  EXPECT_TRUE(plan.fits());
  EXPECT_LE(plan.total(), plan.budget);
  EXPECT_GT(plan.total(), plan.budget - plan.experts.slot_bytes);
  EXPECT_GT(plan.experts.slots(), 47 * 8);
  EXPECT_LT(plan.context, 262144);
  EXPECT_EQ(plan.context % 1024, 0);
  EXPECT_GT(plan.chunk, 512);
  const SpeedEstimate speed = estimate_speed(engine->program(), engine->config(), plan, {});
  EXPECT_EQ(speed.decode.limit(), Resource::disk);
  EXPECT_GT(speed.decode_read_bytes, 0);
  EXPECT_LT(speed.decode_read_bytes, speed.expert_bytes);
  // 8 of 256 experts in each of 47 layers, 3 * 4096 * 2048 bytes and their scales.
  EXPECT_NEAR(speed.expert_bytes, 47.0 * 8 * 3 * 4096 * 2048, 47.0 * 8 * 3 * 4096 * 2048 * 1e-3);
  // The whole memory of a machine that holds the model.
  const auto large = planned(path, {.memory = 400 * gibi});
  EXPECT_TRUE(large->plan().experts.resident);
  EXPECT_EQ(large->plan().context, 262144);
  EXPECT_EQ(large->plan().chunk, 2048) << "64 rows for each of 256 experts, 8 of which a token has";
  EXPECT_NE(estimate_speed(large->program(), large->config(), large->plan(), {}).decode.limit(), Resource::disk);
}

// Long passes are worth less than experts that stay in memory.
TEST(MemoryPlan, APassIsAsLongAsTheExpertsInMemoryAllow) {
  const test::TempFolder folder;
  const fs::path path = full_model(folder, "minimax_m2");
  const MemoryPlan shortest = planned(path, {.memory = 400 * gibi, .context = 4096, .chunk = 512})->plan();
  ASSERT_TRUE(shortest.experts.resident);
  std::int64_t chunk = 512;
  for (const std::uint64_t more : {std::uint64_t{0}, shortest.workspace, 4 * shortest.workspace}) {
    const MemoryPlan plan = planned(path, {.memory = shortest.total() + more + (gibi >> 6), .context = 4096})->plan();
    EXPECT_TRUE(plan.experts.resident) << more;
    EXPECT_LE(plan.total(), plan.budget) << more;
    EXPECT_EQ(plan.chunk, chunk) << more;
    chunk *= 2;
  }
}

TEST(MemoryPlan, WhatIsSetAsideAndWhatLoadingTakesCount) {
  const MemoryPlan without = planned(golden("mimo-basic"))->plan(),
                   with = planned(golden("mimo-basic"), {.aside = gibi})->plan();
  EXPECT_EQ(with.aside, gibi);
  EXPECT_GE(with.total(), without.total() + gibi);
  // Loading is over before sessions and passes take memory.
  MemoryPlan plan = without;
  plan.loading = plan.working() / 2;
  EXPECT_EQ(plan.total() - plan.process - plan.weights.total() - plan.experts.resident_bytes, plan.working());
  plan.loading = plan.working() + 5;
  EXPECT_EQ(plan.total() - plan.process - plan.weights.total() - plan.experts.resident_bytes, plan.working() + 5);
  EXPECT_GT(planned(golden("mimo-basic"), {.weights = WeightFormat::bf16})->plan().loading, without.loading)
      << "what is converted is read into memory before";
}

// A mask demands all of its rows in one pass.
TEST(MemoryPlan, APassThatWasNotPlannedIsRefused) {
  const fs::path path = golden("minimax-basic");
  EngineOptions options{.threads = 1, .context = 64, .chunk = 4};
  const MemoryPlan plan = planned(path, options)->plan();
  options.memory = plan.least() + 2 * plan.experts.slot_bytes;
  const auto engine = Engine::open(path, options);
  ASSERT_FALSE(engine->plan().experts.resident);
  const std::vector<std::int32_t> tokens(60, 1);
  std::vector<std::uint8_t> visible(60 * 60);
  for (std::size_t row = 0; row < 60; ++row)
    for (std::size_t key = 0; key <= row; ++key) visible[row * 60 + key] = 1;
  const std::vector<LayerMask> masks = {{.visible = visible}};
  Session session(*engine);
  session.forward(tokens);
  options.chunk = 60;
  options.memory = 0;
  const auto roomy = Engine::open(path, options);
  Session other(*roomy);
  const auto masked = other.forward(tokens, {.inputs = {.masks = masks}});
  EXPECT_TRUE(std::equal(masked.begin(), masked.end(), session.logits().begin(), session.logits().end()));
  EXPECT_THAT(test::error_of(Errc::out_of_memory,
                             [&] {
                               MemoryPlan full = roomy->plan();
                               full.budget = full.total();
                               full.check_pass(100, full.workspace + 1);
                             }),
              testing::AllOf(HasSubstr("100 rows in one pass take"), HasSubstr("--chunk")));
}

TEST(MemoryPlan, TooLittleIsRefusedWithWhatWouldDo) {
  const test::TempFolder folder;
  const fs::path path = full_model(folder, "mimo_v2_flash");
  EngineOptions options{.threads = 1, .memory = 4 * gibi, .context = 32768};
  const MemoryPlan plan = planned(path, options)->plan();
  EXPECT_FALSE(plan.fits());
  EXPECT_GT(plan.least(), 4 * gibi);
  const std::string message = test::error_of(Errc::out_of_memory, [&] { Engine::open(path, options); });
  EXPECT_THAT(message, HasSubstr("4.00 GiB of memory are too little, at least"));
  EXPECT_THAT(message, HasSubstr("--ctx"));
  // The headers may take a little more memory the second time.
  options.memory = plan.least() + plan.least() / 50;
  EXPECT_TRUE(planned(path, options)->plan().fits());
}

}  // namespace
}  // namespace millrace
