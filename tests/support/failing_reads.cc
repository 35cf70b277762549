#include "tests/support/failing_reads.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <vector>

namespace millrace::test {
namespace {

std::mutex mutex;
std::vector<FailingReads*> active;

bool reads_from(int descriptor, const std::string& path) {
  std::array<char, 4096> target;
  const ssize_t length = readlink(fmt::format("/proc/self/fd/{}", descriptor).c_str(), target.data(), target.size());
  return length > 0 && std::string_view(target.data(), static_cast<std::size_t>(length)).find(path) != path.npos;
}

ssize_t read_at(int descriptor, void* target, std::size_t count, off_t offset) {
  {
    const std::lock_guard lock(mutex);
    for (FailingReads* reads : active) {
      if (!reads_from(descriptor, reads->path)) continue;
      if (reads->error != 0 && reads->fine-- <= 0) {
        errno = reads->error;
        return -1;
      }
      if (reads->at_most > 0) count = std::min<std::size_t>(count, reads->at_most);
      reads->bytes += count;
    }
  }
  return syscall(SYS_pread64, descriptor, target, count, offset);
}

}  // namespace

FailingReads::FailingReads(std::string of) : path(std::move(of)) {
  const std::lock_guard lock(mutex);
  active.push_back(this);
}

FailingReads::~FailingReads() {
  const std::lock_guard lock(mutex);
  std::erase(active, this);
}

}  // namespace millrace::test

extern "C" {

ssize_t pread(int descriptor, void* target, std::size_t count, off_t offset) {
  return millrace::test::read_at(descriptor, target, count, offset);
}

ssize_t pread64(int descriptor, void* target, std::size_t count, off_t offset) {
  return millrace::test::read_at(descriptor, target, count, offset);
}

int io_uring_queue_init(unsigned entries, io_uring* ring, unsigned flags) {
  {
    const std::lock_guard lock(millrace::test::mutex);
    if (!millrace::test::active.empty()) return -EPERM;
  }
  static const auto next =
      reinterpret_cast<int (*)(unsigned, io_uring*, unsigned)>(dlsym(RTLD_NEXT, "io_uring_queue_init"));
  return next(entries, ring, flags);
}

}  // extern "C"
