// ExpertImages: where experts lie in their files and how they come to lie in a slot of memory: the pieces of the files
// as they are, each read in one go, and behind them what had to be converted. Immutable, so any thread may use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loader/stored_expert.h"
#include "runtime/expert_source.h"

namespace millrace {

// A range of a file that holds some of an expert's data, widened to whole blocks of DiskFile.
struct FilePiece {
  const SafetensorsFile* file = nullptr;
  const TensorEntry* tensor = nullptr;  // the first one in it
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
  std::size_t least = 0;  // the data end after so many; the file may, too
  std::size_t place = 0;  // in the slot
};

class ExpertImages {
 public:
  // `layers` as find_experts() gives them; the checkpoint must outlive this. FP8 stays FP8, whatever the format of
  // `options`: the bits of results are the same.
  ExpertImages(std::vector<std::vector<StoredExpert>> layers, const WeightOptions& options);

  std::size_t slot_bytes() const noexcept { return slot_bytes_; }              // that hold any expert; whole blocks
  std::size_t read_bytes() const noexcept { return read_bytes_; }              // of an expert at most
  std::size_t most_pieces() const noexcept { return most_pieces_; }            // of an expert
  std::span<const std::int32_t> experts() const noexcept { return experts_; }  // of each layer
  const std::vector<std::vector<StoredExpert>>& layers() const noexcept { return layers_; }
  std::span<const FilePiece> pieces(int layer, int expert) const noexcept;

  // Of the first expert of `layer`, as kernels read it.
  std::uint64_t expert_bytes(int layer) const {
    return memory_bytes(layers_.at(static_cast<std::size_t>(layer)).at(0), options_);
  }

  // Checks and converts what was read into `slot`. Allocates nothing. Throws Error(bad_file) naming the tensor.
  ExpertWeights arrange(int layer, int expert, std::byte* slot) const;

 private:
  std::size_t index(int layer, int expert) const noexcept {
    return offsets_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert);
  }
  void add(const StoredExpert& expert);

  WeightOptions options_;
  std::vector<std::vector<StoredExpert>> layers_;
  std::vector<std::int32_t> experts_;
  std::vector<std::size_t> offsets_;  // by layer
  std::vector<FilePiece> pieces_;     // of all experts
  std::vector<std::size_t> first_;    // by expert, in pieces_
  std::size_t slot_bytes_ = 0, read_bytes_ = 0, most_pieces_ = 0;
};

}  // namespace millrace
