#include "loader/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t block_bytes = 8 << 20;

std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> counter = 0;
  return fmt::format("{}.{}-{}.tmp", path, getpid(), counter++);
}

// Makes the rename itself durable. Some file systems cannot; the file's contents are safe by then.
void sync_folder(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(fsync(descriptor));
  close(descriptor);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path.string()), temporary_(temporary_name(path_)), block_(block_bytes, "a block of a file") {
  constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  descriptor_ = open(temporary_.c_str(), flags | O_DIRECT, 0666);
  if (descriptor_ < 0 && errno == EINVAL) {
    unlink(temporary_.c_str());  // a file system without direct writes may have created the file before it refused
    descriptor_ = open(temporary_.c_str(), flags, 0666);
  }
  if (descriptor_ < 0) fail_io("cannot be created");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::fail_io(const char* action) const {
  const int error = errno;
  fail(Errc::io, "{}: {}: {}", path_, action, std::generic_category().message(error));
}

void AtomicFile::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    const std::size_t count = std::min(data.size(), block_bytes - collected_);
    std::memcpy(block_.data() + collected_, data.data(), count);
    data = data.subspan(count);
    collected_ += count;
    if (collected_ == block_bytes) store({block_.data(), std::exchange(collected_, 0)});
  }
}

void AtomicFile::store(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t written = ::write(descriptor_, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("cannot be written");
    data = data.subspan(static_cast<std::size_t>(written));
    if (!data.empty()) leave_direct();  // what is left need not be aligned
  }
}

void AtomicFile::leave_direct() {
  const int flags = fcntl(descriptor_, F_GETFL);
  if (flags < 0 || fcntl(descriptor_, F_SETFL, flags & ~O_DIRECT) != 0) fail_io("cannot be written");
}

void AtomicFile::store_collected() {
  leave_direct();
  store({block_.data(), std::exchange(collected_, 0)});
}

void AtomicFile::write_hole(std::uint64_t bytes) {
  store_collected();
  const off_t end = lseek(descriptor_, static_cast<off_t>(bytes), SEEK_CUR);
  if (end < 0 || ftruncate(descriptor_, end) != 0) fail_io("cannot be written");
}

void AtomicFile::finish() {
  store_collected();
  if (fsync(descriptor_) != 0) fail_io("cannot be written");
  if (close(std::exchange(descriptor_, -1)) != 0) fail_io("cannot be written");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("cannot be given its name");
  temporary_.clear();
  sync_folder(path_);
}

}  // namespace millrace
