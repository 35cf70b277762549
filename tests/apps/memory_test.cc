// The promise of --memory, of the program: whatever a subcommand is asked for, its process takes no more than --memory
// says, plus 2 %. Each run is in a control group of exactly that limit where the system allows one.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "model/engine.h"
#include "tests/support/memory_group.h"
#include "tests/support/random.h"
#include "tests/support/streamed_model.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr double allowed = 1.02;
constexpr std::int64_t context = 400;
constexpr std::uint64_t mebi = 1 << 20;

class ProgramMemory : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    model_ = test::write_streamed_model(folder_.path(), GetParam());
    test::Random random(3);
    std::ofstream prompt(file("prompt"));
    for (std::int64_t i = 0; i < context - 16; ++i) prompt << random.below(8000) << ' ';
  }

  std::string file(const char* name) const {
    return (folder_.path() / name).string();
  }

  // For a third of the experts, or all of them.
  std::uint64_t budget(bool streamed) const {
    const auto engine =
        Engine::open(model_, {.threads = 2, .context = context, .chunk = 128, .mtp_layers = 3, .headers_only = true});
    return engine->plan().other() + engine->plan().experts.resident_bytes / (streamed ? 3 : 1);
  }

  void expect_kept(std::uint64_t memory, Words words) const {
    words.insert(words.end(), {"-m", model_.string(), "--memory", std::to_string(memory), "--threads", "2"});
    words.insert(words.begin(), MILLRACE_PROGRAM);
    std::string line;
    for (const std::string& word : words) line += word + ' ';
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) run(words, static_cast<std::uint64_t>(allowed * static_cast<double>(memory)));
    int status = 0;
    rusage usage{};
    ASSERT_EQ(wait4(child, &status, 0, &usage), child);
    test::MemoryGroup::remove_all();
    EXPECT_TRUE(WIFEXITED(status)) << line << "ended by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0) << line;
    const double share = 1024.0 * static_cast<double>(usage.ru_maxrss) / static_cast<double>(memory);
    EXPECT_LE(share, allowed) << line;
    std::fprintf(stderr, "%.3f of %.1f MB: %s\n", share, static_cast<double>(memory) / 1e6, words[1].c_str());
  }

  void expect_kept_either_way(const Words& words) const {
    for (const bool streamed : {true, false}) expect_kept(budget(streamed), words);
  }

  test::TempFolder folder_;
  fs::path model_;

 private:
  [[noreturn]] void run(Words& words, std::uint64_t limit) const {
    const auto group = test::MemoryGroup::enter();
    if (group) group->limit(limit);
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (std::freopen("/dev/null", "w", stdout) == nullptr) std::_Exit(125);
    execv(MILLRACE_PROGRAM, arguments.data());
    std::_Exit(126);
  }
};

TEST_P(ProgramMemory, Generate) {
  for (int turn = 0; turn < 2; ++turn)
    expect_kept_either_way({"generate", "--tokens-file", file("prompt"), "-n", "6", "--ctx", std::to_string(context),
                            "--session", file("session.kv")});
}

// More logits and step outputs than the budget.
TEST_P(ProgramMemory, Eval) {
  const Words call = {"eval", "--tokens-file", file("prompt"), "--ctx", std::to_string(context), "--chunk", "128"};
  const auto with = [&call](const Words& more) {
    Words words = call;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  expect_kept_either_way(with({"--out", file("dump"), "--trace", "all"}));
  EXPECT_GT(fs::file_size(file("dump")), 40 * mebi);
  const std::string mtp = GetParam() == std::string("mimo-reduced") ? "mtp.*," : "";
  expect_kept_either_way(with({"--out", file("dump"), "--trace", mtp + "norm", "--labels", "tokens"}));
  // Attention probabilities are held until the end, and so they are planned.
  const std::uint64_t probabilities = std::uint64_t{8} * (context - 16) * (context - 16) * 4;
  expect_kept(budget(true) + probabilities, with({"--out", file("dump"), "--attention", "1"}));
}

TEST_P(ProgramMemory, Bench) {
  expect_kept_either_way({"bench", "--trace-experts", file("trace"), "--gen", "4", "--ctx", std::to_string(context)});
  const Words rounds = {"--rounds", "1",     "--prompt", "300", "--batch", "1,3",
                        "--depth",  "0,256", "--gen",    "2",   "--ctx",   std::to_string(context),
                        "--chunk",  "128"};
  for (const char* what : {"prefill,decode", "prefill,load"}) {
    Words words = {"bench", "--only", what};
    words.insert(words.end(), rounds.begin(), rounds.end());
    // Beside the model, the read that is measured takes an eighth of the budget, and 64 MiB at least.
    expect_kept(budget(true) + 72 * mebi, words);
  }
  expect_kept(512 * mebi, {"bench", "--kernels", "--rounds", "1"});
}

TEST_P(ProgramMemory, InspectAndPlan) {
  expect_kept(budget(true), {"inspect"});
  expect_kept(budget(true), {"plan", "--no-probe", "--ctx", std::to_string(context)});
}

std::string family_of(const testing::TestParamInfo<const char*>& shape) {
  const std::string name = shape.param;
  return name.substr(0, name.find('-'));
}

INSTANTIATE_TEST_SUITE_P(Families, ProgramMemory, testing::Values("mimo-reduced", "minimax-reduced"), family_of);

}  // namespace
}  // namespace millrace
