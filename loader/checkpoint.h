// Checkpoint: a hub folder: config.json, the safetensors files that count, and their tensors under canonical names
// (tensor_names.h). Owns the mapped files; immutable, so any thread may read it. Opening reads headers only,
// on a few threads.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loader/safetensors.h"
#include "loader/tensor_names.h"

namespace millrace {

// Where a tensor lies. Both pointers live as long as the checkpoint.
struct StoredTensor {
  const SafetensorsFile* file = nullptr;
  const TensorEntry* entry = nullptr;

  explicit operator bool() const noexcept { return entry != nullptr; }
};

enum class Shards {
  all,     // every file that the index names must be there
  planned  // tensors of those that are not there count too: see Checkpoint::open
};

class Checkpoint {
 public:
  using Tensors = std::map<std::string, StoredTensor, std::less<>>;

  // `path` is a hub folder, or a single .safetensors file (then there is no configuration).
  // With model.safetensors.index.json the index decides which files count and which of two files holds a tensor;
  // without it every model*.safetensors counts. model_mtp.safetensors always counts.
  // A tensor that is there twice must be the same to the last byte; the index decides where there is one.
  // Throws Error naming the file: not_found, io, bad_file; unsupported for the folder of a LoRA adapter.
  // Shards::planned serves plans: of a file that the index names and that is not there the dtypes of its tensors follow
  // from the names beside them (a weight with scales is F8_E4M3, one with exponents MXFP4, others are BF16), their
  // shapes become what is demanded first. Their data cannot be read, and one thread at a time may use the checkpoint.
  static Checkpoint open(const std::filesystem::path& path, Shards shards = Shards::all);

  const std::string& path() const noexcept { return path_; }
  bool has_config() const noexcept { return has_config_; }
  const std::string& config_text() const noexcept { return config_text_; }      // config.json as on disk
  const std::string& config_sha256() const noexcept { return config_sha256_; }  // of that text

  std::span<const std::unique_ptr<const SafetensorsFile>> files() const noexcept { return files_; }
  // Throws Error(io) naming the first file that shrank since it was opened. Cheap: called before every pass, so that a
  // replaced or truncated shard ends in an error while its pages are in use.
  void check_sizes() const;

  // By canonical name.
  const Tensors& tensors() const noexcept { return tensors_; }
  // The tensor of that canonical name; empty if there is none.
  StoredTensor find(std::string_view canonical) const noexcept;
  // The same, which must exist and have that shape. Throws Error(not_found), Error(bad_file) with both shapes.
  StoredTensor demand(std::string_view canonical, std::span<const std::int64_t> shape) const;
  // The same of any shape; one that is not there takes `planned_shape`. Empty if there is none.
  StoredTensor find_planned(std::string_view canonical, std::span<const std::int64_t> planned_shape) const;
  // Files that the index names and that are not there.
  std::int64_t absent_files() const noexcept { return absent_files_; }
  // How this checkpoint's files spell, or would spell, a canonical name. For messages.
  std::string spelled(std::string_view canonical) const;
  // Whether some tensor is stored in `dtype`.
  bool holds(Dtype dtype) const noexcept;
  // Tensors of indexed files that the index does not mention (they count all the same), by name in the file.
  const std::vector<std::string>& unindexed() const noexcept { return unindexed_; }

 private:
  struct Index;
  explicit Checkpoint(std::string path) : path_(std::move(path)) {}
  void add_file(std::unique_ptr<const SafetensorsFile> opened, Index* index);
  void add_tensor(const SafetensorsFile& file, const TensorEntry& entry, const std::string& file_name, Index* index,
                  Tensors::iterator& hint);
  void add_absent(const std::filesystem::path& path, Index& index);
  void check_index(const Index& index) const;

  std::string path_;
  bool has_config_ = false;
  std::string config_text_, config_sha256_;
  std::vector<std::unique_ptr<const SafetensorsFile>> files_;
  Tensors tensors_;
  std::unique_ptr<std::map<std::string, TensorEntry, std::less<>>> absent_;  // by canonical name
  std::int64_t absent_files_ = 0;
  SpellingSet spellings_;
  std::vector<std::string> unindexed_;
};

}  // namespace millrace
