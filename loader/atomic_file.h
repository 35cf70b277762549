// AtomicFile: writes a file so that a reader sees either all of it or what was there before: the data go to a temporary
// name in the same folder, reach the disk, and only then take the final name. Data are collected into blocks, which go
// to the disk past the page cache where the file system allows it. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "runtime/buffer.h"

namespace millrace {

class AtomicFile {
 public:
  // All members throw Error(io) naming the file and the system's reason.
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  // Removes the temporary file unless finish() succeeded.
  ~AtomicFile();

  void write(std::span<const std::byte> data);
  // Appends zeros that are not stored where the file system allows it.
  void write_hole(std::uint64_t bytes);
  // Gives the file its name, replacing a previous one.
  void finish();

  const std::string& path() const noexcept { return path_; }

 private:
  [[noreturn]] void fail_io(const char* action) const;
  void store(std::span<const std::byte> data);
  // From now on data pass through the page cache, which takes any amount from any place.
  void leave_direct();
  void store_collected();

  std::string path_, temporary_;
  int descriptor_ = -1;
  Buffer block_;
  std::size_t collected_ = 0;  // bytes of the block
};

}  // namespace millrace
