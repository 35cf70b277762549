#include "loader/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t block_bytes = 8 << 20;
constexpr std::string_view ending = ".tmp";

namespace fs = std::filesystem;

std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> counter = 0;
  return fmt::format("{}.{}-{}{}", path, getpid(), counter++, ending);
}

// Whether temporary_name() may have made `name` of the file name `of`, in this process or another.
bool is_temporary_name(std::string_view name, std::string_view of) {
  if (!name.starts_with(of) || !name.ends_with(ending) || name.size() < of.size() + ending.size() + 4) return false;
  name = name.substr(of.size(), name.size() - of.size() - ending.size());
  const std::size_t dash = name.find('-');
  return name[0] == '.' && dash > 1 && dash + 1 < name.size() && name.find_first_not_of("0123456789", 1) == dash &&
         name.find_first_not_of("0123456789", dash + 1) == name.npos;
}

fs::path folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

// Past the page cache where the file system allows it.
int open_direct(const char* path, int flags) {
  const int descriptor = open(path, flags | O_DIRECT, 0666);
  if (descriptor >= 0 || errno != EINVAL) return descriptor;
  if ((flags & O_CREAT) != 0) unlink(path);  // which may have been created before it was refused
  return open(path, flags, 0666);
}

std::string link_of(int descriptor) {
  return fmt::format("/proc/self/fd/{}", descriptor);
}

// A file without a name, which is gone when the process is; -1 where there are none, or they could not be given one.
int open_unnamed(const fs::path& folder) {
  const int descriptor = open_direct(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC);
  if (descriptor < 0 || access(link_of(descriptor).c_str(), F_OK) == 0) return descriptor;
  close(descriptor);
  return -1;
}

// Removes what writers of `path` left behind when they were killed. Those that live hold a lock.
void remove_stale(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  std::error_code failure;
  for (fs::directory_iterator entry(folder_of(path), failure), end; !failure && entry != end;
       entry.increment(failure)) {
    if (!is_temporary_name(entry->path().filename().string(), name)) continue;
    const int descriptor = open(entry->path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) continue;
    if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) unlink(entry->path().c_str());
    close(descriptor);
  }
}

// Makes the rename itself durable. Some file systems cannot; the file's contents are safe by then.
void sync_folder(const std::string& path) {
  const int descriptor = open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(fsync(descriptor));
  close(descriptor);
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& path) : path_(path.string()), block_(block_bytes, "a block of a file") {
  remove_stale(path_);
  descriptor_ = open_unnamed(folder_of(path_));
  if (descriptor_ < 0) {
    temporary_ = temporary_name(path_);
    descriptor_ = open_direct(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC);
    if (descriptor_ < 0) temporary_.clear();
  }
  if (descriptor_ < 0) fail_io("cannot be created");
  static_cast<void>(flock(descriptor_, LOCK_EX | LOCK_NB));  // remove_stale
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
  if (descriptor_ >= 0) close(descriptor_);
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

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> data) {
  store_collected();
  while (!data.empty()) {
    const ssize_t written = pwrite(descriptor_, data.data(), data.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("cannot be written");
    data = data.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void AtomicFile::read_at(std::uint64_t offset, std::span<std::byte> target) {
  store_collected();
  while (!target.empty()) {
    const ssize_t count = pread(descriptor_, target.data(), target.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io("cannot be read");
    require(count > 0, Errc::io, "{}: ends before what was written to it", path_);
    target = target.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

// A name for a file without one: the final one if it is free, for a link replaces nothing; else a temporary one.
void AtomicFile::link() {
  const std::string from = link_of(descriptor_);
  const auto link_to = [&from](const std::string& name) {
    return linkat(AT_FDCWD, from.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
  };
  if (link_to(path_)) return;
  const std::string name = temporary_name(path_);
  if (errno != EEXIST || !link_to(name)) fail_io("cannot be given its name");
  temporary_ = name;
}

void AtomicFile::finish() {
  store_collected();
  if (fsync(descriptor_) != 0) fail_io("cannot be written");
  if (temporary_.empty()) link();
  if (!temporary_.empty() && std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("cannot be given its name");
  temporary_.clear();
  if (close(std::exchange(descriptor_, -1)) != 0) fail_io("cannot be written");
  sync_folder(path_);
}

}  // namespace millrace
