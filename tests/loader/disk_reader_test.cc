#include "loader/disk_reader.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>

#include "loader/uring_reader.h"
#include "runtime/buffer.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

constexpr std::size_t block = DiskFile::block;

class Waiter final : public DiskReader::Client {
 public:
  void read_done(const DiskRead& read, int error) noexcept override {
    const std::lock_guard lock(mutex_);
    errors_[read.tag] = error;
    done_.notify_all();
  }
  int error_of(std::uint64_t tag) {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return errors_.contains(tag); });
    return errors_[tag];
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  std::map<std::uint64_t, int> errors_;
};

std::string random_text(std::size_t bytes) {
  test::Random random(1);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random.below(256));
  return text;
}

bool is_refused() {
  Waiter waiter;
  return make_uring_reader(1, waiter, false) == nullptr;
}

std::byte* aligned(Buffer& buffer) {
  const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
  return buffer.data() + (block - address % block) % block;
}

struct Way {
  const char* name;
  DiskIo io;
  bool direct;
  const char* folder = nullptr;
};

class DiskReaderTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam().io == DiskIo::uring && is_refused()) GTEST_SKIP() << "this system refuses io_uring";
    if (GetParam().folder != nullptr && !std::filesystem::exists(GetParam().folder)) GTEST_SKIP() << "no such folder";
    if (GetParam().folder != nullptr) path_ = std::filesystem::path(GetParam().folder) / folder_.path().filename();
  }
  void TearDown() override { std::filesystem::remove(path_); }

  const std::filesystem::path& write(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return path_;
  }

  test::TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "file";
};

TEST_P(DiskReaderTest, ReadsManyPieces) {
  constexpr std::size_t pieces = 40, bytes = 5 * block;
  const std::string text = random_text(pieces * bytes + 1234);
  DiskFile file(write(text), GetParam().direct);
  Buffer memory((pieces + 1) * bytes + block, "test");
  std::byte* target = aligned(memory);
  Waiter waiter;
  const auto reader = make_disk_reader(GetParam().io, 64, waiter);
  for (std::size_t i = 0; i <= pieces; ++i)
    reader->start({.file = &file,
                   .offset = i * bytes,
                   .bytes = bytes,
                   .least = i < pieces ? bytes : 1234,
                   .target = target + i * bytes,
                   .tag = i});
  for (std::size_t i = 0; i <= pieces; ++i) ASSERT_EQ(waiter.error_of(i), 0) << i;
  EXPECT_EQ(std::memcmp(target, text.data(), text.size()), 0);
}

TEST_P(DiskReaderTest, AnEndTooEarlyIsAnError) {
  DiskFile file(write(random_text(3 * block + 100)), GetParam().direct);
  Buffer memory(9 * block, "test");
  Waiter waiter;
  const auto reader = make_disk_reader(GetParam().io, 4, waiter);
  auto error = [&, tag = std::uint64_t{0}](std::uint64_t offset, std::size_t least) mutable {
    reader->start(
        {.file = &file, .offset = offset, .bytes = 8 * block, .least = least, .target = aligned(memory), .tag = tag});
    return waiter.error_of(tag++);
  };
  EXPECT_EQ(error(0, 3 * block + 100), 0);
  EXPECT_EQ(error(0, 3 * block + 101), DiskReader::file_ended);
  EXPECT_EQ(error(2 * block, block + 100), 0);
  EXPECT_EQ(error(2 * block, 2 * block), DiskReader::file_ended);
  EXPECT_EQ(error(3 * block, 100), 0);
  EXPECT_EQ(error(8 * block, 1), DiskReader::file_ended);
  std::filesystem::resize_file(path_, block);
  EXPECT_EQ(error(0, 3 * block), DiskReader::file_ended);
}

// Reads that nobody began are dropped, those under way are waited for.
TEST_P(DiskReaderTest, EndsAnyTime) {
  DiskFile file(write(random_text(64 * block)), GetParam().direct);
  Buffer memory(65 * block, "test");
  for (int round = 0; round < 20; ++round) {
    Waiter waiter;
    const auto reader = make_disk_reader(GetParam().io, 64, waiter);
    for (std::size_t i = 0; i < static_cast<std::size_t>(3 * round); ++i)
      reader->start({.file = &file,
                     .offset = i * block,
                     .bytes = block,
                     .least = block,
                     .target = aligned(memory) + i * block,
                     .tag = i});
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, DiskReaderTest,
                         testing::Values(Way{"uring", DiskIo::uring, true}, Way{"uring_buffered", DiskIo::uring, false},
                                         Way{"uring_tmpfs", DiskIo::uring, true, "/dev/shm"},
                                         Way{"threads", DiskIo::threads, true},
                                         Way{"threads_buffered", DiskIo::threads, false},
                                         Way{"threads_tmpfs", DiskIo::threads, true, "/dev/shm"},
                                         Way{"automatic", DiskIo::automatic, true}),
                         [](const auto& way) { return way.param.name; });

class ReadProgressTest : public testing::Test {
 protected:
  test::TempFolder folder_;
  DiskFile file_ = DiskFile(folder_.write("file", "text"));
  DiskRead read_ = {.file = &file_, .offset = 8 * block, .bytes = 4 * block, .least = 3 * block + 7};
  int error_ = 99;
};

TEST_F(ReadProgressTest, ContinuesAtTheLastWholeBlock) {
  ReadProgress progress(read_);
  EXPECT_FALSE(progress.advance(-EINTR, error_));
  EXPECT_FALSE(progress.advance(-EAGAIN, error_));
  EXPECT_EQ(progress.bytes(), 4 * block);
  EXPECT_FALSE(progress.advance(block + 5, error_));
  EXPECT_EQ(progress.offset(), 9 * block);
  EXPECT_EQ(progress.bytes(), 3 * block);
  EXPECT_EQ(progress.target(), read_.target + block);
  EXPECT_FALSE(progress.advance(2 * block, error_));
  EXPECT_TRUE(progress.advance(7, error_));
  EXPECT_EQ(error_, 0);
}

TEST_F(ReadProgressTest, EndsWithoutProgress) {
  for (const std::int64_t last : {0, 6}) {
    ReadProgress progress(read_);
    EXPECT_FALSE(progress.advance(3 * block, error_));
    EXPECT_TRUE(progress.advance(last, error_));
    EXPECT_EQ(error_, DiskReader::file_ended);
  }
}

TEST_F(ReadProgressTest, KeepsErrorsAndGivesUpDirectReads) {
  ReadProgress progress(read_);
  if (file_.direct()) {
    EXPECT_FALSE(progress.advance(-EINVAL, error_));
    EXPECT_FALSE(file_.direct());
  }
  EXPECT_TRUE(progress.advance(-EINVAL, error_));
  EXPECT_EQ(error_, EINVAL);
  EXPECT_TRUE(progress.advance(-EIO, error_));
  EXPECT_EQ(error_, EIO);
}

TEST(DiskFile, OpensFilesOnly) {
  const test::TempFolder folder;
  test::error_of(Errc::not_found, [&] { DiskFile(folder.path() / "missing"); });
  test::error_of(Errc::bad_file, [&] { DiskFile(folder.path() / "."); });
}

TEST(DiskFile, ReopensWhatThePathLeadsTo) {
  const test::TempFolder folder;
  const auto path = folder.write("file", "one");
  DiskFile file(path);
  const FileIdentity before = file.identity();
  EXPECT_EQ(before.bytes, 3u);
  EXPECT_EQ(file.identity(), before);
  std::filesystem::rename(folder.write("other", "three"), path);
  EXPECT_EQ(file.identity(), before);
  file.reopen();
  EXPECT_EQ(file.identity().bytes, 5u);
  EXPECT_NE(file.identity().inode, before.inode);
  std::filesystem::remove(path);
  test::error_of(Errc::not_found, [&] { file.reopen(); });
  EXPECT_EQ(file.identity().bytes, 5u);
}

}  // namespace
}  // namespace millrace
