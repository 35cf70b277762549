// DiskReader: reads pieces of files in the background, several at a time. Owns its threads; start() may be called by
// any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "loader/disk_file.h"

namespace millrace {

enum class DiskIo {
  automatic,  // io_uring where the system allows it, else threads
  uring,      // one thread, many reads under way
  threads,    // a read per thread
  mapped,     // no reader: the system reads the pages of mapped files when they are touched; for comparison
};

struct DiskRead {
  DiskFile* file = nullptr;
  std::uint64_t offset = 0;     // multiples of DiskFile::block, as are `bytes` and the address of `target`
  std::size_t bytes = 0;        // room in `target`
  std::size_t least = 0;        // how many must be there: a file may end after them
  std::byte* target = nullptr;  // stays valid until the read is done
  std::uint64_t tag = 0;        // for the caller
  bool fresh = true;            // the target may lie in memory that nobody has touched
};

class DiskReader {
 public:
  // What a read ended with, beside 0 and the system's error numbers.
  static constexpr int file_ended = -1;

  class Client {
   public:
    // On a thread of the reader, never from within start(). May call start(). `error`: 0, file_ended, or the system's.
    virtual void read_done(const DiskRead& read, int error) noexcept = 0;

   protected:
    ~Client() = default;
  };

  // Waits for the reads under way; those that were not begun are dropped.
  virtual ~DiskReader() = default;

  // Begins a read, in the order of the calls. Never blocks. At most `most` (make_disk_reader) may be under way.
  virtual void start(const DiskRead& read) = 0;

  virtual const char* name() const noexcept = 0;  // "io_uring", "threads"
};

// `client` must outlive the reader. Throws Error(unsupported) where the system refuses io_uring and DiskIo::uring
// insists on it.
std::unique_ptr<DiskReader> make_disk_reader(DiskIo io, int most, DiskReader::Client& client);

// How far a read has come.
class ReadProgress {
 public:
  ReadProgress() = default;
  explicit ReadProgress(const DiskRead& read) : read_(read), direct_(read.file->direct()) {}

  const DiskRead& read() const noexcept { return read_; }
  // What is still to be read.
  std::uint64_t offset() const noexcept { return read_.offset + done_; }
  std::size_t bytes() const noexcept { return read_.bytes - done_; }
  std::byte* target() const noexcept { return read_.target + done_; }

  // Takes what a system call returned: a count, or a negative error number. True when the read is over; then `error`
  // tells how it ended. A short count continues at the last whole block, and so does an interrupted call.
  bool advance(std::int64_t result, int& error) noexcept;

 private:
  DiskRead read_;
  std::size_t done_ = 0;
  bool direct_ = false;
};

}  // namespace millrace
