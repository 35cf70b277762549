// SHA-256 of a checkpoint's files, to compare two downloads, and of single tensors, which survive re-sharding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loader/checkpoint.h"
#include "loader/weight_options.h"

namespace millrace {

struct FileChecksum {
  std::string name;  // in the folder
  std::uint64_t bytes = 0;
  std::string sha256;  // of the whole file, as sha256sum and model hubs give it
};

struct TensorChecksum {
  std::string name;    // as spelled in its file
  std::string sha256;  // of the data alone
};

// The safetensors files that count and the folder's small files (.json, .jinja, .txt), by name; of a checkpoint that is
// one file, that file. `progress` may be empty. Throws Error(io) naming the file.
std::vector<FileChecksum> file_checksums(const Checkpoint& checkpoint, const Progress& progress);

// All tensors, by the spelling in their files. Throws Error(io) naming file and tensor.
std::vector<TensorChecksum> tensor_checksums(const Checkpoint& checkpoint, const Progress& progress);

}  // namespace millrace
