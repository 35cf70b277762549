// Makes the reads of this process fail as a broken disk would, below everything: at the system call. While one of these
// lives, io_uring is refused, so that whatever is opened reads with pread(). Linked into the test program, its pread()
// comes before that of the C library.
#pragma once

#include <atomic>
#include <string>

namespace millrace::test {

class FailingReads {
 public:
  // Of files whose path contains `path`.
  explicit FailingReads(std::string path);
  ~FailingReads();
  FailingReads(const FailingReads&) = delete;
  FailingReads& operator=(const FailingReads&) = delete;

  std::atomic<int> error = 0;            // what reads fail with, where it is not 0
  std::atomic<int> fine = 0;             // that many more succeed before
  std::atomic<std::size_t> at_most = 0;  // bytes of a read, where it is not 0
  std::atomic<std::uint64_t> bytes = 0;  // read so far

  const std::string path;
};

}  // namespace millrace::test
