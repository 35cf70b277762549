// AtomicFile: writes a file so that a reader sees either all of it or what was there before: the data go to a temporary
// name in the same folder, reach the disk, and only then take the final name. One thread at a time.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

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
  // Gives the file its name, replacing a previous one.
  void finish();

  const std::string& path() const noexcept { return path_; }

 private:
  [[noreturn]] void fail_io(const char* action) const;

  std::string path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace millrace
