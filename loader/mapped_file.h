// MappedFile: a regular file seen as read-only memory. Owns the mapping and the descriptor; move-only. Reading the same
// object from several threads is safe.
// Touching a page that the disk cannot deliver, or that lies behind the new end of a file that shrank, raises SIGBUS:
// populate() a range before reading it, which reports both as Error(io).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "loader/disk_file.h"

namespace millrace {

class MappedFile {
 public:
  // Throws Error(not_found) if nothing is there, Error(io) if it cannot be opened or mapped, Error(bad_file) if it is
  // not a regular file. An empty file is mapped as no bytes at a null pointer.
  explicit MappedFile(const std::filesystem::path& path);
  // Stands for a file that is not there, to plan by: of no bytes, at a pointer that is not null.
  static MappedFile absent(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  const std::string& path() const noexcept { return path_; }
  std::size_t bytes() const noexcept { return bytes_; }  // when the file was opened
  const std::byte* data() const noexcept { return data_; }
  const FileIdentity& identity() const noexcept { return identity_; }  // when the file was opened

  // Brings bytes [offset, offset + count) into memory; the range must lie inside the file as it was opened.
  // Throws Error(io) naming the file if it shrank or cannot be read.
  void populate(std::size_t offset, std::size_t count) const;

  // The reverse, where nobody needs the bytes any more: this process lets go of their pages.
  void release(std::size_t offset, std::size_t count) const noexcept;

  // Copies bytes from `offset` on without touching the mapping. Throws like populate().
  void read(std::size_t offset, std::span<std::byte> target) const;

  // Throws Error(io) if the file shrank since it was opened: reading behind its new end would raise SIGBUS.
  void check_size() const;

 private:
  MappedFile() = default;
  void read_pages(std::size_t begin, std::size_t end) const;

  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  FileIdentity identity_;
  int descriptor_ = -1;
};

}  // namespace millrace
