// The experts of a layer as files hold them, found and checked by their headers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "loader/weight_store.h"

namespace millrace {

// The experts of one MoE layer, stored one by one ("<prefix>.E.gate_proj.weight", "up_proj", "down_proj") or merged
// ("<prefix>.gate_up_proj" (experts, 2 * width, hidden), gate rows first, and "<prefix>.down_proj" (experts, hidden,
// width)), the latter also with the last two dimensions exchanged.
struct ExpertLayer {
  int layer = 0;       // what acquire() calls it
  std::string prefix;  // canonical: "layers.3.mlp.experts"
  std::int64_t experts = 0, width = 0, hidden = 0;
};

struct StoredExpert {
  StoredLinear gate, up, down;

  std::array<const StoredLinear*, 3> parts() const noexcept { return {&gate, &up, &down}; }
};

// What an expert takes in memory, held as the options say.
std::uint64_t memory_bytes(const StoredExpert& expert, WeightOptions options);

// By layer number; empty for dense layers. Reads headers only and counts the experts as used in `store`. Throws what
// WeightStore::find_linear throws, and Error(bad_argument) for a layer without experts or given twice.
std::vector<std::vector<StoredExpert>> find_experts(WeightStore& store, const std::vector<ExpertLayer>& layers);

// The files that hold them, each once.
std::vector<const SafetensorsFile*> files_of(const std::vector<std::vector<StoredExpert>>& layers);

}  // namespace millrace
