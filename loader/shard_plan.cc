#include "loader/shard_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

namespace millrace {
namespace {

// "model.layers.3.mlp.experts.5" of "model.layers.3.mlp.experts.5.up_proj.weight": what is kept in one file.
std::string_view module_of(std::string_view name) {
  for (int parts = 0; parts < 2; ++parts) name = name.substr(0, std::min(name.rfind('.'), name.size()));
  return name;
}

}  // namespace

std::vector<Shard> plan_shards(std::span<const TensorHeader> tensors, std::uint64_t max_bytes) {
  std::vector<Shard> shards(1);
  for (std::size_t begin = 0, end = 0; begin < tensors.size(); begin = end) {
    std::uint64_t bytes = 0;
    for (; end < tensors.size() && module_of(tensors[end].name) == module_of(tensors[begin].name); ++end)
      bytes += data_bytes(tensors[end], "shards");
    if (!shards.back().tensors.empty() && shards.back().bytes + bytes > max_bytes) shards.emplace_back();
    shards.back().tensors.insert(shards.back().tensors.end(), tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                                 tensors.begin() + static_cast<std::ptrdiff_t>(end));
    shards.back().bytes += bytes;
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    std::sort(shards[i].tensors.begin(), shards[i].tensors.end(), precedes_in_file);
  }
  return shards;
}

std::string index_text(std::span<const Shard> shards) {
  nlohmann::json places = nlohmann::json::object();
  std::uint64_t total = 0;
  for (const Shard& shard : shards) {
    total += shard.bytes;
    for (const TensorHeader& tensor : shard.tensors) places[tensor.name] = shard.file;
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(places)}};
  return index.dump(2) + "\n";
}

}  // namespace millrace
