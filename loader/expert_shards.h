// ExpertShards: the files that experts are read from, with copies on other disks, and what is known of their state. Not
// thread-safe: its owner locks; check_again() is for the computing thread.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "loader/checkpoint.h"
#include "loader/disk_file.h"

namespace millrace {

class ExpertShards {
 public:
  // One file, in the checkpoint or in a folder of copies.
  struct Copy {
    Copy(const SafetensorsFile& header_of, const std::filesystem::path& path) : header(&header_of), file(path) {}

    const SafetensorsFile* header;
    DiskFile file;
    FileIdentity opened;  // what it was when its header was last checked
    std::uint64_t bytes_under_way = 0;
    bool suspect = false;  // a read failed, or it is not what it was

    bool is_as_opened() const noexcept;
  };

  // `copies` are folders with the same files. Throws Error: not_found where such a folder holds none of the files, io
  // where a file changed since the checkpoint was opened, bad_file where a copy is laid out otherwise.
  ExpertShards(std::span<const SafetensorsFile* const> files, std::span<const std::filesystem::path> copies);

  // Where to read a piece of that file from: the copy with least under way. With `sound`, null if all are suspect.
  Copy* choose(const SafetensorsFile* file, bool sound) noexcept;

  // Whose file that is.
  Copy& copy_of(const DiskFile& file) noexcept;

  // Suspect copies are used again that are what they were, or have the layout of the checkpoint and what `same_data`
  // takes for its data; it is given the checkpoint's file and what is there now.
  using SameData = std::function<bool(const SafetensorsFile* file, const SafetensorsFile& now)>;
  void check_again(const SameData& same_data);
  bool any_suspect() const noexcept { return any_suspect_; }
  void suspect(Copy& copy) noexcept { copy.suspect = any_suspect_ = true; }

 private:
  std::deque<Copy> copies_;
  std::map<const SafetensorsFile*, std::vector<Copy*>> of_file_;
  bool any_suspect_ = false;
};

}  // namespace millrace
