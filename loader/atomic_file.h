// AtomicFile: writes a file so that a reader sees either all of it or what was there before: the data go to a file
// without a name in the same folder, reach the disk, and only then take the final name. Where the file system has no
// such files, and for the moment in which one file replaces another, there is a temporary name beside the final one;
// what a killed process leaves of those, the next AtomicFile of that name removes. Data are collected into blocks,
// which go to the disk past the page cache where the file system allows it. One thread at a time.
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
  // Nothing is left of the file unless finish() succeeded.
  ~AtomicFile();

  void write(std::span<const std::byte> data);
  // Appends zeros that are not stored where the file system allows it.
  void write_hole(std::uint64_t bytes);
  // Data anywhere in what was appended so far, through the page cache.
  void write_at(std::uint64_t offset, std::span<const std::byte> data);
  void read_at(std::uint64_t offset, std::span<std::byte> target);
  // Gives the file its name, replacing a previous one.
  void finish();

  const std::string& path() const noexcept { return path_; }

 private:
  [[noreturn]] void fail_io(const char* action) const;
  void store(std::span<const std::byte> data);
  // From now on data pass through the page cache, which takes any amount from any place.
  void leave_direct();
  void store_collected();
  void link();

  std::string path_, temporary_;  // without a temporary name: empty
  int descriptor_ = -1;
  Buffer block_;
  std::size_t collected_ = 0;  // bytes of the block
};

}  // namespace millrace
