#include "loader/disk_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "runtime/error.h"

namespace millrace {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

}  // namespace

FileIdentity identity_of(int descriptor, const std::string& path) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) fail(Errc::io, "{}: cannot be examined: {}", path, reason(errno));
  return {.device = static_cast<std::uint64_t>(status.st_dev),
          .inode = static_cast<std::uint64_t>(status.st_ino),
          .bytes = static_cast<std::uint64_t>(status.st_size),
          .modified_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

DiskFile::DiskFile(const std::filesystem::path& path, bool direct)
    : path_(path.string()), direct_(direct), descriptor_(open_path()) {}

DiskFile::~DiskFile() {
  close(descriptor_);
}

int DiskFile::open_path() {
  // Non-blocking, or a named pipe in place of the file would wait for a writer.
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  int opened = open(path_.c_str(), flags | (direct_ ? O_DIRECT : 0));
  if (opened < 0 && errno == EINVAL && direct_) {
    direct_ = false;
    opened = open(path_.c_str(), flags);
  }
  const int error = errno;
  require(opened >= 0, error == ENOENT ? Errc::not_found : Errc::io, "{}: cannot be opened: {}", path_, reason(error));
  struct stat status {};
  const bool regular = fstat(opened, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) close(opened);
  require(regular, Errc::bad_file, "{}: not a regular file", path_);
  return opened;
}

void DiskFile::go_indirect() noexcept {
  direct_ = false;
  const int flags = fcntl(descriptor_, F_GETFL);
  if (flags >= 0) fcntl(descriptor_, F_SETFL, flags & ~O_DIRECT);
}

void DiskFile::reopen() {
  const int opened = open_path();
  // Keeps the number, so that reads under way on other threads never meet a closed descriptor.
  const int moved = dup3(opened, descriptor_, O_CLOEXEC);
  const int error = errno;
  close(opened);
  require(moved >= 0, Errc::io, "{}: cannot be opened: {}", path_, reason(error));
}

void DiskFile::forget(std::uint64_t offset, std::size_t bytes) const noexcept {
  if (!direct_) posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
}

}  // namespace millrace
