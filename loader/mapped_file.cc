#include "loader/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "runtime/error.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; libc headers may be older than the kernel
#endif

namespace millrace {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

// Closes the descriptor unless it was handed on.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path.string()) {
  // Non-blocking, or a named pipe in place of the file would wait for a writer.
  Descriptor file{open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  const int error = errno;
  require(file.value >= 0, error == ENOENT ? Errc::not_found : Errc::io, "{}: cannot be opened: {}", path_,
          reason(error));
  struct stat status {};
  require(fstat(file.value, &status) == 0, Errc::io, "{}: cannot be examined: {}", path_, reason(errno));
  require(!S_ISDIR(status.st_mode), Errc::bad_file, "{}: a file was expected, found a directory", path_);
  require(S_ISREG(status.st_mode), Errc::bad_file, "{}: not a regular file", path_);
  identity_ = identity_of(file.value, path_);
  bytes_ = static_cast<std::size_t>(identity_.bytes);
  if (bytes_ > 0) {
    void* data = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.value, 0);
    require(data != MAP_FAILED, Errc::io, "{}: {} bytes cannot be mapped: {}", path_, bytes_, reason(errno));
    data_ = static_cast<const std::byte*>(data);
  }
  descriptor_ = std::exchange(file.value, -1);
}

MappedFile MappedFile::absent(const std::filesystem::path& path) {
  static constexpr std::byte nothing{};
  MappedFile file;
  file.path_ = path.string();
  file.data_ = &nothing;
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      identity_(other.identity_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

MappedFile::~MappedFile() {
  if (bytes_ > 0) munmap(const_cast<std::byte*>(data_), bytes_);
  if (descriptor_ >= 0) close(descriptor_);
}

void MappedFile::check_size() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) fail(Errc::io, "{}: cannot be examined: {}", path_, reason(errno));
  require(static_cast<std::size_t>(status.st_size) >= bytes_, Errc::io,
          "{}: the file shrank from {} to {} bytes while it was in use", path_, bytes_, status.st_size);
}

void MappedFile::populate(std::size_t offset, std::size_t count) const {
  require(offset <= bytes_ && count <= bytes_ - offset, Errc::bad_argument, "{}: bytes {}+{} of {} asked for", path_,
          offset, count, bytes_);
  if (count == 0) return;
  check_size();
  const std::size_t begin = offset / page_size() * page_size();
  const std::size_t end = offset + count;
  int error = 0;
  do {
    void* start = const_cast<std::byte*>(data_ + begin);
    error = madvise(start, end - begin, MADV_POPULATE_READ) == 0 ? 0 : errno;
  } while (error == EINTR || error == EAGAIN);
  if (error == EINVAL) return read_pages(begin, end);  // a kernel before 5.14
  if (error != 0) check_size();
  require(error == 0, Errc::io, "{}: bytes {} to {} cannot be read: {}", path_, offset, end,
          error == EFAULT ? "input/output error" : reason(error));
}

void MappedFile::release(std::size_t offset, std::size_t count) const noexcept {
  const std::size_t begin = offset / page_size() * page_size();
  madvise(const_cast<std::byte*>(data_ + begin), offset + count - begin, MADV_DONTNEED);
}

void MappedFile::read(std::size_t offset, std::span<std::byte> target) const {
  require(offset <= bytes_ && target.size() <= bytes_ - offset, Errc::bad_argument, "{}: bytes {}+{} of {} asked for",
          path_, offset, target.size(), bytes_);
  for (std::size_t done = 0; done < target.size();) {
    const ssize_t got =
        pread(descriptor_, target.data() + done, target.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(Errc::io, "{}: byte {} cannot be read: {}", path_, offset + done, reason(errno));
    require(got > 0, Errc::io, "{}: the file ends at byte {}, {} expected", path_, offset + done, bytes_);
    done += static_cast<std::size_t>(got);
  }
}

// Reading one byte of each page brings the page into the system's cache, where the mapping finds it.
void MappedFile::read_pages(std::size_t begin, std::size_t end) const {
  for (std::size_t at = begin; at < end; at += page_size()) {
    char byte = 0;
    ssize_t got = 0;
    do {
      got = pread(descriptor_, &byte, 1, static_cast<off_t>(at));
    } while (got < 0 && errno == EINTR);
    require(got >= 0, Errc::io, "{}: byte {} cannot be read: {}", path_, at, reason(errno));
    require(got == 1, Errc::io, "{}: the file ends at byte {}, {} expected", path_, at, bytes_);
  }
}

}  // namespace millrace
