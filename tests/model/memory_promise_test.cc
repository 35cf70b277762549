// The promise of --memory: whatever a process does with a model, it takes no more than was planned, plus 2 %. Each case
// runs in a process of its own, in a control group with exactly that limit where the system allows one.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "model/engine.h"
#include "model/generate.h"
#include "model/loss.h"
#include "tests/support/memory_group.h"
#include "tests/support/random.h"
#include "tests/support/streamed_model.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr double allowed = 1.02;
constexpr std::int64_t context = 400;

std::vector<std::int32_t> random_prompt(std::uint64_t seed, std::int64_t tokens) {
  test::Random random(seed);
  std::vector<std::int32_t> prompt(static_cast<std::size_t>(tokens));
  for (std::int32_t& id : prompt) id = static_cast<std::int32_t>(random.below(8000));
  return prompt;
}

void go_on(Session& session, std::uint64_t seed, std::int64_t tokens) {
  generate(session, random_prompt(seed, tokens), {.max_tokens = 8, .ignore_eos = true}, {});
}

// What programs do: a prompt that fills the context, requests that share their beginning as those of a chat do, and
// sessions that are saved and gone on with.
void use(const Engine& engine, const fs::path& saved) {
  {
    Session session(engine);
    go_on(session, 1, context - 8);
    session.save(saved);
    for (std::uint64_t turn = 0; turn < 2; ++turn) {
      session.truncate(100);
      go_on(session, turn, 50);
    }
  }
  perplexity(engine, random_prompt(7, context), {});
  Session session(engine);
  session.load(saved);
  session.truncate(context - 100);
  go_on(session, 5, 50);
}

// For a cache of a third of the experts.
std::uint64_t streaming_budget(const fs::path& path, EngineOptions options) {
  options.headers_only = true;
  const MemoryPlan plan = Engine::open(path, options)->plan();
  return plan.other() + plan.experts.resident_bytes / 3;
}

// Ends the process: with 0 if it kept to the plan.
[[noreturn]] void use_within(const fs::path& path, EngineOptions options, bool streamed) try {
  const auto group = test::MemoryGroup::enter();
  options.threads = 1;
  options.context = context;
  options.chunk = 128;
  if (streamed) options.memory = streaming_budget(path, options);
  const auto engine = Engine::open(path, options);
  if (streamed == engine->plan().experts.resident) std::_Exit(3);
  const auto plan = static_cast<double>(engine->plan().total());
  const bool limited = group && group->limit(static_cast<std::uint64_t>(allowed * plan));
  use(*engine, path / "saved.kv");
  const auto peak = static_cast<double>(peak_resident_memory());
  std::fprintf(stderr, "%.1f MB resident, %.1f MB planned, %s\n", peak / 1e6, plan / 1e6,
               limited ? "held to it by a control group" : "no control group");
  std::_Exit(peak <= allowed * plan ? 0 : 1);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  std::_Exit(2);
}

class MemoryPromise : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    path_ = test::write_streamed_model(folder_.path(), GetParam());
  }
  void expect_kept(const EngineOptions& options, bool streamed, const char* what) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) use_within(path_, options, streamed);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    test::MemoryGroup::remove_all();
    EXPECT_TRUE(WIFEXITED(status)) << what << ": ended by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0) << what;
  }

  test::TempFolder folder_;
  fs::path path_;
};

TEST_P(MemoryPromise, InMemory) {
  expect_kept({.weights = WeightFormat::fp8}, false, "FP8");
  expect_kept({.weights = WeightFormat::bf16}, false, "dequantized");
}

TEST_P(MemoryPromise, Streamed) {
  expect_kept({}, true, "as the system reads best");
  expect_kept({.expert_io = DiskIo::threads}, true, "threads");
  expect_kept({.expert_io = DiskIo::mapped}, true, "mapped");
}

using MemoryPromiseOfMtp = MemoryPromise;

TEST_P(MemoryPromiseOfMtp, WithPredictionLayers) {
  expect_kept({.mtp_layers = 2}, false, "in memory");
  expect_kept({.mtp_layers = 2}, true, "streamed");
}

std::string family_of(const testing::TestParamInfo<const char*>& shape) {
  const std::string name = shape.param;
  return name.substr(0, name.find('-'));
}

INSTANTIATE_TEST_SUITE_P(Families, MemoryPromise, testing::Values("mimo-reduced", "minimax-reduced"), family_of);
INSTANTIATE_TEST_SUITE_P(Families, MemoryPromiseOfMtp, testing::Values("mimo-reduced"), family_of);

}  // namespace
}  // namespace millrace
