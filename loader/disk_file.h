// DiskFile: a file open for reading around the page cache (O_DIRECT), or through it where the system refuses that.
// Owns the descriptor. Any thread may read while no other calls reopen().
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

namespace millrace {

// What tells whether a path still leads to the same contents.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0, bytes = 0;
  std::int64_t modified_ns = 0;

  bool operator==(const FileIdentity&) const = default;
};

// Of an open file. Throws Error(io) naming `path`.
FileIdentity identity_of(int descriptor, const std::string& path);

class DiskFile {
 public:
  // What offsets, lengths and addresses of direct reads are multiples of: no disk asks for more.
  static constexpr std::size_t block = 4096;

  // Throws Error(not_found), Error(io), Error(bad_file) for what is no regular file.
  explicit DiskFile(const std::filesystem::path& path, bool direct = true);
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;
  ~DiskFile();

  const std::string& path() const noexcept { return path_; }
  int descriptor() const noexcept { return descriptor_; }
  bool direct() const noexcept { return direct_; }
  // Of the open file, now: one that was truncated or written to is another. Throws Error(io).
  FileIdentity identity() const { return identity_of(descriptor_, path_); }

  // From now on reads go through the page cache: for file systems that accept O_DIRECT and then refuse the reads.
  void go_indirect() noexcept;
  // Opens what the path leads to now. Throws like the constructor and then keeps the old file.
  void reopen();
  // After a read that went through the page cache: drops what it left there.
  void forget(std::uint64_t offset, std::size_t bytes) const noexcept;

 private:
  int open_path();

  std::string path_;
  std::atomic<bool> direct_;
  int descriptor_;
};

}  // namespace millrace
