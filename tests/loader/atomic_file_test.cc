#include "loader/atomic_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/text_file.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(AtomicFile, ReplacesAFileOnlyWhenFinished) {
  const test::TempFolder folder;
  const auto path = folder.write("a", "old");
  {
    AtomicFile file(path);
    file.write(bytes("new"));
    EXPECT_EQ(read_text_file(path, 100), "old");
  }
  EXPECT_EQ(read_text_file(path, 100), "old");
  EXPECT_EQ(folder.entries(), 1);
  AtomicFile file(path);
  file.write(bytes("ne"));
  file.write(bytes("w"));
  file.finish();
  EXPECT_EQ(read_text_file(path, 100), "new");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFile, BlocksPiecesAndHolesBecomeOneFile) {
  const test::TempFolder folder;
  const auto path = folder.path() / "a";
  std::string expected;
  AtomicFile file(path);
  const auto write = [&](std::size_t count) {
    std::string text(count, 'a');
    for (std::size_t i = 0; i < count; ++i) text[i] = static_cast<char>('a' + (expected.size() + i) % 23);
    file.write(bytes(text));
    expected += text;
  };
  for (const std::size_t count : {1, 20'000'000, 0, 8 << 20}) write(count);
  file.write_hole(5001);
  expected.append(5001, '\0');
  for (const std::size_t count : {7, 9'000'000}) write(count);
  file.write_hole(3);
  expected.append(3, '\0');
  file.finish();
  EXPECT_TRUE(read_text_file(path, 100'000'000) == expected);
}

TEST(AtomicFile, FailuresNameTheFile) {
  const test::TempFolder folder;
  EXPECT_THAT(test::error_of(Errc::io, [&] { AtomicFile file(folder.path() / "none" / "a"); }), HasSubstr("none/a"));
  AtomicFile file(folder.path());
  EXPECT_THAT(test::error_of(Errc::io, [&] { file.finish(); }), HasSubstr("name"));
}

// What a full disk is to a writer, for the time it lives: files that may not grow.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(AtomicFile, AWriteThatFailsLeavesTheOldFile) {
  const test::TempFolder folder;
  const auto path = folder.write("a", "old");
  {
    const FileLimit limit(1000);
    const std::string data(600, 'n');
    EXPECT_THAT(test::error_of(Errc::io,
                               [&] {
                                 AtomicFile file(path);
                                 for (int i = 0; i < 2; ++i) file.write(bytes(data));
                                 file.finish();
                               }),
                testing::AllOf(HasSubstr("/a: cannot be written: "), HasSubstr("File too large")));
  }
  EXPECT_EQ(read_text_file(path, 100), "old");
  EXPECT_EQ(folder.entries(), 1);
}

// Writes the file again and again, each time with another letter throughout, until it is killed.
[[noreturn]] void write_for_ever(const std::filesystem::path& path, std::size_t size) {
  for (char letter = 'a';; letter = letter == 'z' ? 'a' : static_cast<char>(letter + 1)) {
    const std::string part(size / 8, letter);
    AtomicFile file(path);
    for (int i = 0; i < 8; ++i) file.write(bytes(part));
    file.finish();
  }
}

TEST(AtomicFile, AWriterThatIsKilledLeavesOneWholeFile) {
  constexpr std::size_t size = 1 << 18;
  const test::TempFolder folder;
  const auto path = folder.write("a", std::string(size, 'A'));
  for (useconds_t delay = 300; delay < 60000; delay = delay * 3 / 2) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_for_ever(path, size);
    usleep(delay);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const std::string text = read_text_file(path, 2 * size);
    EXPECT_EQ(text, std::string(size, text[0])) << "killed after " << delay << " us";
  }
  AtomicFile(path).finish();
  EXPECT_EQ(folder.entries(), 1) << "what was left is gone";
}

TEST(AtomicFile, DataMayGoAnywhereInWhatIsThere) {
  const test::TempFolder folder;
  const auto path = folder.path() / "a";
  AtomicFile file(path);
  file.write(bytes("0123456789"));
  file.write_hole(5000);
  file.write_at(4, bytes("abc"));
  file.write_at(5008, bytes("xy"));
  std::string back(5, ' ');
  file.read_at(3, std::as_writable_bytes(std::span(back)));
  EXPECT_EQ(back, "3abc7");
  EXPECT_THAT(test::error_of(Errc::io, [&] { file.read_at(5006, std::as_writable_bytes(std::span(back))); }),
              HasSubstr("/a: ends before"));
  file.finish();
  EXPECT_EQ(read_text_file(path, 10000), "0123abc789" + std::string(4998, '\0') + "xy");
}

// Of killed processes; not of those that write, nor anything else.
TEST(AtomicFile, LeftoversOfTheSameNameAreRemoved) {
  const test::TempFolder folder;
  const auto path = folder.write("a", "old");
  folder.write("a.123-0.tmp", "half");
  folder.write("a.4194304-17.tmp", "half");
  for (const char* other : {"a.tmp", "a.-1.tmp", "a.12-.tmp", "a.x1-2.tmp", "a.1-2-3.tmp", "b.123-0.tmp", "a.1-2.tmp2"})
    folder.write(other, "someone's");
  std::filesystem::create_directory(folder.path() / "a.5-5.tmp");
  const auto held = folder.write("a.77-7.tmp", "being written");
  const int descriptor = open(held.c_str(), O_RDONLY);
  ASSERT_EQ(flock(descriptor, LOCK_EX), 0);
  AtomicFile(path).finish();
  close(descriptor);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "a.123-0.tmp"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "a.4194304-17.tmp"));
  EXPECT_EQ(folder.entries(), 10);
  AtomicFile(path).finish();
  EXPECT_FALSE(std::filesystem::exists(held)) << "its writer is gone";
}

}  // namespace
}  // namespace millrace
