// How the tensors of a checkpoint are spread over files, as published folders do: shards of a limited size and
// model.safetensors.index.json, which says where each tensor is. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loader/safetensors_writer.h"

namespace millrace {

struct Shard {
  std::string file;                   // "model-00001-of-00003.safetensors"
  std::vector<TensorHeader> tensors;  // in the order of their data, precedes_in_file()
  std::uint64_t bytes = 0;            // of the data of all tensors
};

// Spreads `tensors`, given in the order of the model, over as few shards of at most `max_bytes` as that order allows.
// Tensors of one module (an expert, an attention) stay together; a module beyond the limit is a shard of its own.
// Throws what data_bytes() throws.
std::vector<Shard> plan_shards(std::span<const TensorHeader> tensors, std::uint64_t max_bytes);

// The text of model.safetensors.index.json.
std::string index_text(std::span<const Shard> shards);

}  // namespace millrace
