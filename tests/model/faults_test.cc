// What can go wrong beneath a running model: systems that refuse what is fastest, files that go away, disks that are
// full, a process that is killed. Errors are messages, and the next request works. More of it, with injected read
// errors, is in tests/loader/expert_cache_test.cc.
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>

#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::uint64_t cache_bytes = 1 << 20;

fs::path golden(const char* name) {
  return fs::path(test::golden_dir()) / "models" / name;
}

void copy_model(const char* name, const fs::path& folder) {
  for (const char* file : {"config.json", "model.safetensors"})
    fs::copy_file(golden(name) / file, folder / file, fs::copy_options::overwrite_existing);
}

const test::Tokens tokens = {1, 2, 3, 150, 151, 152, 9, 8, 7, 33, 34, 35, 36, 37, 38, 39};

std::vector<float> fresh(const Engine& engine) {
  return test::fresh_logits(engine, {}, tokens);
}

// From now on this process may not use io_uring, as in most containers.
bool forbid_uring() {
  std::array<sock_filter, 4> filter = {sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                       sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
                                       sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                                       sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

[[noreturn]] void run_without_uring() {
  constexpr int cannot_forbid = 3;
  if (!forbid_uring()) std::_Exit(cannot_forbid);
  const auto engine = Engine::open(golden("mimo-basic"), {.threads = 1, .expert_cache_bytes = cache_bytes});
  const auto whole = Engine::open(golden("mimo-basic"), {.threads = 1});
  const bool same = fresh(*engine) == fresh(*whole);
  const std::string refused = test::error_of(Errc::unsupported, [] {
    Engine::open(golden("mimo-basic"), {.threads = 1, .expert_cache_bytes = cache_bytes, .expert_io = DiskIo::uring});
  });
  std::fprintf(stderr, "%s; %s\n", engine->expert_stats()->reader, refused.c_str());
  std::_Exit(same ? 0 : 1);
}

TEST(FaultsDeathTest, WithoutIoUringThreadsRead) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_without_uring(), testing::ExitedWithCode(0), "threads; .*io_uring");
}

// Whatever tmpfs thinks of direct reads, or where a test can get at one.
TEST(Faults, ModelsInATmpfs) {
  const fs::path memory = "/dev/shm";
  constexpr long tmpfs_magic = 0x01021994;
  struct statfs status {};
  if (statfs(memory.c_str(), &status) != 0 || status.f_type != tmpfs_magic || access(memory.c_str(), W_OK) != 0)
    GTEST_SKIP() << "no tmpfs at /dev/shm";
  const fs::path folder = memory / ("millrace-test-" + std::to_string(getpid()));
  fs::create_directory(folder);
  copy_model("minimax-basic", folder);
  const auto whole = Engine::open(golden("minimax-basic"), {.threads = 1});
  for (const DiskIo io : {DiskIo::automatic, DiskIo::threads}) {
    const auto engine = Engine::open(folder, {.threads = 1, .expert_cache_bytes = cache_bytes, .expert_io = io});
    test::expect_same_bits(fresh(*engine), fresh(*whole), "tmpfs");
  }
  fs::remove_all(folder);
}

// What was opened stays readable under whatever happens to its name.
TEST(Faults, AShardThatIsRemovedOrReplacedIsStillRead) {
  const test::TempFolder folder;
  copy_model("minimax-basic", folder.path());
  const auto whole = Engine::open(golden("minimax-basic"), {.threads = 1});
  const auto engine = Engine::open(folder.path(), {.threads = 1, .expert_cache_bytes = cache_bytes});
  const fs::path shard = folder.path() / "model.safetensors";
  fs::remove(shard);
  test::expect_same_bits(fresh(*engine), fresh(*whole), "removed");
  fs::copy_file(golden("mimo-basic") / "model.safetensors", shard);
  test::expect_same_bits(fresh(*engine), fresh(*whole), "replaced by another model's");
  fs::remove(shard);
  fs::create_directory(shard);
  test::expect_same_bits(fresh(*engine), fresh(*whole), "replaced by a folder");
}

// Files may grow to `bytes` while this lives: as on a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(Faults, ASessionThatCannotBeSavedGoesOnAndTheOldFileStays) {
  const test::TempFolder folder;
  const fs::path file = folder.path() / "session.kv";
  const auto engine = Engine::open(golden("mimo-basic"), {.threads = 1});
  Session session(*engine);
  session.forward(tokens);
  session.save(file);
  const auto want = test::fresh_logits(*engine, test::joined(tokens, tokens), tokens);
  session.forward(tokens);
  {
    const FullDisk full(4096);
    EXPECT_THAT(test::error_of(Errc::io, [&] { session.save(file); }),
                AllOf(HasSubstr("session.kv: cannot be written: "), HasSubstr("File too large")));
  }
  EXPECT_EQ(folder.entries(), 1) << "nothing is left of the attempt";
  Session restored(*engine);
  restored.load(file);
  EXPECT_EQ(restored.length(), std::ssize(tokens));
  test::expect_same_bits(test::logits_of(session, tokens), want, "after the failure");
  session.save(file);
  restored.load(file);
  EXPECT_EQ(restored.length(), 3 * std::ssize(tokens));
}

[[noreturn]] void save_for_ever(const Session& one, const Session& two, const fs::path& file) {
  for (;;) {
    one.save(file);
    two.save(file);
  }
}

TEST(Faults, AProcessThatIsKilledWhileSavingLeavesAWholeSession) {
  const test::TempFolder folder;
  const fs::path file = folder.path() / "session.kv";
  const auto engine = Engine::open(golden("mimo-basic"), {.threads = 1});
  Session one(*engine), two(*engine);
  one.forward(tokens);
  two.forward(test::joined(tokens, tokens));
  one.save(file);
  test::Random random(7);
  int long_ones = 0;
  constexpr int rounds = 24;
  for (int round = 0; round < rounds; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_for_ever(one, two, file);
    usleep(static_cast<useconds_t>(500 + random.below(30000)));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    Session restored(*engine);
    restored.load(file);
    const Session& saved = restored.length() == one.length() ? one : two;
    ASSERT_TRUE(
        std::equal(restored.tokens().begin(), restored.tokens().end(), saved.tokens().begin(), saved.tokens().end()));
    long_ones += &saved == &two;
  }
  one.save(file);
  EXPECT_EQ(folder.entries(), 1) << "nothing is left of the others";
  RecordProperty("long_ones", long_ones);
}

}  // namespace
}  // namespace millrace
