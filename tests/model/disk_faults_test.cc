// Disks that break beneath a whole engine: at the system call. Messages name file and tensor, a request that fails
// leaves the session as it was, and the next one works, with the bits of a model in memory.
#include <gmock/gmock.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/failing_reads.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using test::Tokens;
using testing::AllOf;
using testing::HasSubstr;

const Tokens tokens = {1, 2, 3, 150, 151, 152, 9, 8, 7, 33, 34, 35, 36, 37, 38, 39};
const Tokens more = {77, 5, 91, 4, 12, 60, 61};

class DiskFaults : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(golden() / file, folder_.path() / file);
    const auto whole = Engine::open(golden(), {.threads = 1});
    want_ = test::fresh_logits(*whole, {}, tokens);
    want_more_ = test::fresh_logits(*whole, tokens, more);
  }

  fs::path golden() const { return fs::path(test::golden_dir()) / "models" / GetParam(); }
  fs::path shard() const { return folder_.path() / "model.safetensors"; }
  std::unique_ptr<Engine> open(DiskIo io = DiskIo::automatic, std::vector<fs::path> copies = {}) const {
    return Engine::open(
        folder_.path(),
        {.threads = 1, .expert_cache_bytes = 1 << 20, .expert_io = io, .expert_dirs = std::move(copies)});
  }
  void expect_right(const Engine& engine, const char* what) const {
    test::expect_same_bits(test::fresh_logits(engine, {}, tokens), want_, what);
  }

  test::TempFolder folder_;
  std::vector<float> want_, want_more_;
};

// After so many reads that succeed, the next ones fail: in the first layer, or in the middle of a later one.
TEST_P(DiskFaults, AReadErrorEndsTheRequestAndTheNextOneWorks) {
  for (const int fine : {0, 1, 3, 7, 12}) {
    test::FailingReads reads(folder_.path().string());
    const auto engine = open();
    EXPECT_STREQ(engine->expert_stats()->reader, "threads");
    Session session(*engine);
    reads.fine = fine;
    reads.error = EIO;
    for (int attempt = 0; attempt < 2; ++attempt) {
      EXPECT_THAT(test::error_of(Errc::io, [&] { session.forward(tokens); }),
                  AllOf(HasSubstr(shard().string()), HasSubstr("tensor "), HasSubstr(".experts"),
                        HasSubstr("Input/output error")))
          << fine;
      EXPECT_EQ(session.length(), 0);
    }
    reads.error = 0;
    test::expect_same_bits(test::logits_of(session, tokens), want_, "after the error");
    test::expect_same_bits(test::logits_of(session, more), want_more_, "and on");
  }
}

TEST_P(DiskFaults, AReadErrorWhileLoadingNamesTheTensor) {
  for (const std::uint64_t cache : {std::uint64_t{0}, std::uint64_t{1} << 20})
    for (const int fine : {0, 2, 9}) {
      test::FailingReads reads(folder_.path().string());
      reads.fine = fine;
      reads.error = EIO;
      const EngineOptions options{.threads = 1, .expert_cache_bytes = cache};
      EXPECT_THAT(test::error_of(Errc::io, [&] { Engine::open(folder_.path(), options); }),
                  AllOf(HasSubstr(shard().string()), HasSubstr("tensor "), HasSubstr("Input/output error")));
      reads.error = 0;
      expect_right(*Engine::open(folder_.path(), options), "opened again");
    }
}

TEST_P(DiskFaults, ReadsThatReturnLessAreContinued) {
  for (const std::size_t bytes : {4096, 5000, 65536}) {
    test::FailingReads reads(folder_.path().string());
    reads.at_most = bytes;
    expect_right(*open(), "short reads");
  }
}

TEST_P(DiskFaults, AShardThatIsCutOffIsAnErrorUntilItIsBack) {
  const auto size = fs::file_size(shard());
  for (const DiskIo io : {DiskIo::automatic, DiskIo::threads}) {
    const auto engine = open(io);
    Session session(*engine);
    session.forward(tokens);
    fs::resize_file(shard(), size / 16);
    std::string message;
    for (int attempt = 0; attempt < 2; ++attempt)
      message = test::error_of(Errc::io, [&] {
        for (std::int32_t id = 0; id < 40; ++id) session.forward(std::vector<std::int32_t>{5 * id});
      });
    EXPECT_THAT(message, AllOf(HasSubstr(shard().string()), HasSubstr("tensor "), HasSubstr("changed while it was")));
    session.truncate(std::ssize(tokens));
    fs::copy_file(golden() / "model.safetensors", shard(), fs::copy_options::overwrite_existing);
    test::expect_same_bits(test::logits_of(session, more), want_more_, "once the file is back");
  }
}

// Nobody may open it again, but it is open.
TEST_P(DiskFaults, AShardWhoseRightsAreTakenAwayIsStillRead) {
  for (const DiskIo io : {DiskIo::automatic, DiskIo::threads, DiskIo::mapped}) {
    const auto engine =
        io == DiskIo::mapped
            ? Engine::open(folder_.path(), {.threads = 1, .expert_cache_bytes = 1 << 24, .expert_io = io})
            : open(io);
    fs::permissions(shard(), fs::perms::none);
    expect_right(*engine, "without rights");
    fs::permissions(shard(), fs::perms::owner_all);
  }
}

TEST_P(DiskFaults, ACopyThatBreaksIsReplacedByTheOther) {
  const test::TempFolder other;
  fs::copy_file(shard(), other.path() / "model.safetensors");
  test::FailingReads first(folder_.path().string()), second(other.path().string());
  const auto engine = open(DiskIo::automatic, {other.path()});
  const std::uint64_t loaded = first.bytes;
  Session session(*engine);
  test::expect_same_bits(test::logits_of(session, tokens), want_, "both");
  const double from_first = static_cast<double>(first.bytes - loaded), from_second = static_cast<double>(second.bytes);
  EXPECT_GT(from_first, 0.2 * from_second);
  EXPECT_GT(from_second, 0.2 * from_first);
  for (test::FailingReads* broken : {&first, &second}) {
    broken->fine = 1;
    broken->error = EIO;
    test::expect_same_bits(test::logits_of(session, more), want_more_, "one of them breaks");
    session.truncate(std::ssize(tokens));
    test::expect_same_bits(test::logits_of(session, more), want_more_, "and stays broken");
    session.truncate(std::ssize(tokens));
    broken->error = 0;
  }
}

TEST_P(DiskFaults, TwoCopiesThatBreakAreAnError) {
  const test::TempFolder other;
  fs::copy_file(shard(), other.path() / "model.safetensors");
  test::FailingReads first(folder_.path().string());
  const auto engine = open(DiskIo::automatic, {other.path()});
  Session session(*engine);
  fs::resize_file(other.path() / "model.safetensors", 4096);
  test::expect_same_bits(test::logits_of(session, tokens), want_, "one is cut off");
  EXPECT_THROW(open(DiskIo::automatic, {other.path()}), Error) << "found when it is opened";
  fs::copy_file(golden() / "model.safetensors", other.path() / "model.safetensors",
                fs::copy_options::overwrite_existing);
  test::FailingReads second(other.path().string());
  const auto both = open(DiskIo::automatic, {other.path()});
  Session broken(*both);
  first.fine = second.fine = 2;
  first.error = second.error = EIO;
  EXPECT_THAT(test::error_of(Errc::io, [&] { broken.forward(tokens); }), HasSubstr("model.safetensors: tensor "));
  first.error = second.error = 0;
  test::expect_same_bits(test::logits_of(broken, tokens), want_, "after both were broken");
}

std::string name_of(const testing::TestParamInfo<const char*>& model) {
  std::string name = model.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, DiskFaults, testing::Values("mimo-basic", "minimax-basic"), name_of);

}  // namespace
}  // namespace millrace
