// SafetensorsFile: a mapped safetensors file whose header has been checked completely: nothing in it can lead outside
// the file. Owns the mapping; immutable, so any thread may read it.
// Format: u64 little-endian header length, JSON header, data. Source: github.com/huggingface/safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loader/mapped_file.h"
#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace millrace {

// One tensor of a file. `offset` counts from the start of the file; data of any dtype may be unaligned.
struct TensorEntry {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class SafetensorsFile {
 public:
  static constexpr std::uint64_t max_header_bytes = 100'000'000;  // as the reference library

  // Throws Error(bad_file) naming the file and, where there is one, the tensor; and what MappedFile throws.
  explicit SafetensorsFile(const std::filesystem::path& path);
  // Stands for a file that is not there (MappedFile::absent), without entries.
  static std::unique_ptr<const SafetensorsFile> absent(const std::filesystem::path& path);

  const std::string& path() const noexcept { return file_.path(); }
  const MappedFile& file() const noexcept { return file_; }
  // In the order of their data.
  std::span<const TensorEntry> entries() const noexcept { return entries_; }
  std::span<const TensorEntry* const> entries_by_name() const noexcept { return by_name_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const noexcept { return metadata_; }

  // The tensor of that name, or null.
  const TensorEntry* find(std::string_view name) const noexcept;

  // The bytes of an entry of this file; not yet in memory.
  std::span<const std::byte> data(const TensorEntry& entry) const noexcept {
    return {file_.data() + entry.offset, static_cast<std::size_t>(entry.bytes)};
  }
  // The same after reading them from the disk. Throws Error(io) naming file and tensor.
  std::span<const std::byte> read(const TensorEntry& entry) const;
  // A copy of the bytes that does not touch the mapping; target.size() == entry.bytes. Throws the same.
  void read_into(const TensorEntry& entry, std::span<std::byte> target) const;

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}

  MappedFile file_;
  std::vector<TensorEntry> entries_;
  std::vector<const TensorEntry*> by_name_;  // ascending
  std::map<std::string, std::string, std::less<>> metadata_;
};

}  // namespace millrace
