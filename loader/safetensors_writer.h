// Writes safetensors files, as an AtomicFile: all or nothing. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/atomic_file.h"
#include "runtime/dtype.h"

namespace millrace {

using SafetensorsMetadata = std::map<std::string, std::string>;

struct TensorHeader {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
};

// Bytes of a tensor's data. Throws Error(bad_argument) naming `where` and the tensor for a negative dimension or more
// than 64 bits.
std::uint64_t data_bytes(const TensorHeader& tensor, std::string_view where);

// The order of tensors in a file as the reference library has it: wider element types first, then by name.
bool precedes_in_file(const TensorHeader& a, const TensorHeader& b) noexcept;

struct SafetensorsHeader;

// Streams the data of tensors that were declared beforehand, in that order. Every tensor is aligned to its element if
// wider element types are declared first.
class SafetensorsWriter {
 public:
  // Throws Error(bad_argument) for repeated names, negative dimensions or text that is not UTF-8; Error(io) naming the
  // file and the system's reason.
  SafetensorsWriter(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                    std::span<const TensorHeader> tensors);
  // Appends data. Throws Error(io), Error(bad_argument) beyond what was declared.
  void write(std::span<const std::byte> data);
  // Appends zeros that take no room on the disk where the file system allows it. Throws the same.
  void write_hole(std::uint64_t bytes);

  // Gives the file its name, replacing a previous one. Throws Error(bad_argument) if data are missing, Error(io).
  void finish();

 private:
  SafetensorsWriter(const std::filesystem::path& path, const SafetensorsHeader& header);

  // Counts data as written.
  void take(std::uint64_t bytes);

  AtomicFile file_;
  std::uint64_t remaining_;  // declared bytes not yet written
};

// Writes tensors whose data arrive in pieces, each behind the last one of its tensor, in any order of the tensors: what
// is too much to be held. Ordered by precedes_in_file().
class SafetensorsAssembler {
 public:
  // Throws as SafetensorsWriter does.
  SafetensorsAssembler(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                       std::vector<TensorHeader> tensors);
  // Throws Error(io); Error(bad_argument) for a tensor that was not declared, or more than was.
  void append(std::string_view tensor, std::span<const std::byte> data);
  // What was appended to a tensor, from the byte `begin` on. Throws the same.
  void read_back(std::string_view tensor, std::uint64_t begin, std::span<std::byte> target);
  // Gives the file its name, replacing a previous one; without it nothing is left. Throws Error(bad_argument) if data
  // are missing, Error(io).
  void finish();

 private:
  struct Place {
    std::uint64_t begin, written, bytes;  // in the file
  };
  Place& place_of(std::string_view tensor);

  AtomicFile file_;
  std::map<std::string, Place, std::less<>> places_;
};

struct TensorToWrite : TensorHeader {
  std::span<const std::byte> data;  // exactly the bytes of the shape
};

// Writes all tensors at once, ordered by precedes_in_file().
void write_safetensors(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                       std::vector<TensorToWrite> tensors);

}  // namespace millrace
