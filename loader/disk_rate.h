// What the disk gives at best when the files of a model are read around the page cache, several reads under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "runtime/buffer.h"

namespace millrace {

// Memory of 2 MiB pages for reads under way, to be used for several measurements. One thread at a time.
class DiskRate {
 public:
  // For pieces of at most `largest` bytes.
  explicit DiskRate(std::size_t largest = std::size_t{8} << 20);
  // The memory that such a one holds.
  static std::size_t bytes_for(std::size_t largest) noexcept;

  // Bytes per second of reading `most_bytes` of the files: from the start of each, the largest first, in pieces of
  // 8 MiB, or of the largest if that is less. 0 where there is less than a piece. Throws Error(io).
  double sequential(std::span<const std::filesystem::path> files, std::uint64_t most_bytes);
  // The same in pieces of `bytes`, as an expert has them, at places chosen by `seed`.
  double random(std::span<const std::filesystem::path> files, std::size_t bytes, std::uint64_t most_bytes,
                std::uint64_t seed);

  // How the last measurement read: "io_uring", "threads, through the page cache" and the like.
  const std::string& how() const noexcept { return how_; }

 private:
  Buffer memory_;
  std::string how_;
};

// Asks the system to drop what its page cache holds of a file: the next reads are the disk's. Pages that someone has
// mapped stay.
void drop_cached(const std::filesystem::path& file) noexcept;

}  // namespace millrace
