#include "loader/stored_expert.h"

#include <set>

#include "runtime/error.h"

namespace millrace {
namespace {

// Automodel keeps merged experts as (experts, in, out), Transformers as (experts, out, in). The shapes tell, because
// not both tensors can be square.
bool is_transposed(const Checkpoint& checkpoint, const ExpertLayer& layer) {
  const auto has_shape = [&](const char* name, std::int64_t rows, std::int64_t columns) {
    const StoredTensor stored = checkpoint.find(layer.prefix + name);
    return stored && stored.entry->shape == std::vector{layer.experts, rows, columns};
  };
  return has_shape(".gate_up_proj", layer.hidden, 2 * layer.width) &&
         has_shape(".down_proj", layer.width, layer.hidden) &&
         !(has_shape(".gate_up_proj", 2 * layer.width, layer.hidden) &&
           has_shape(".down_proj", layer.hidden, layer.width));
}

std::vector<StoredExpert> find_single(WeightStore& store, const ExpertLayer& layer) {
  std::vector<StoredExpert> experts;
  for (std::int64_t e = 0; e < layer.experts; ++e) {
    const std::string stem = fmt::format("{}.{}.", layer.prefix, e);
    StoredExpert& expert = experts.emplace_back();
    expert.gate = store.find_linear(stem + "gate_proj.weight", layer.width, layer.hidden);
    expert.up = store.find_linear(stem + "up_proj.weight", layer.width, layer.hidden);
    expert.down = store.find_linear(stem + "down_proj.weight", layer.hidden, layer.width);
  }
  return experts;
}

std::vector<StoredExpert> find_merged(WeightStore& store, const ExpertLayer& layer) {
  const std::int64_t count = layer.experts, width = layer.width, hidden = layer.hidden;
  const bool transposed = is_transposed(store.checkpoint(), layer);
  const StoredLinear both = store.find_stacked(layer.prefix + ".gate_up_proj", count, 2 * width, hidden, 2, transposed);
  const StoredLinear down = store.find_stacked(layer.prefix + ".down_proj", count, hidden, width, 1, transposed);
  std::vector<StoredExpert> experts;
  for (std::int64_t e = 0; e < count; ++e) {
    StoredExpert& expert = experts.emplace_back();
    expert.gate = cut_linear(both, {.first = 2 * e * width, .runs = 1, .rows = width, .stride = 0});
    expert.up = cut_linear(both, {.first = (2 * e + 1) * width, .runs = 1, .rows = width, .stride = 0});
    expert.down = cut_linear(down, {.first = e * hidden, .runs = 1, .rows = hidden, .stride = 0});
  }
  return experts;
}

}  // namespace

std::uint64_t memory_bytes(const StoredExpert& expert, WeightOptions options) {
  options.resident = true;
  std::uint64_t bytes = 0;
  for (const StoredLinear* part : expert.parts()) bytes += owned_bytes(*part, options);
  return bytes;
}

std::vector<std::vector<StoredExpert>> find_experts(WeightStore& store, const std::vector<ExpertLayer>& layers) {
  std::vector<std::vector<StoredExpert>> found;
  for (const ExpertLayer& layer : layers) {
    require(layer.layer >= 0 && layer.experts > 0 && layer.width > 0 && layer.width <= INT32_MAX && layer.hidden > 0,
            Errc::bad_argument, "{}: layer {} with {} experts of width {}", layer.prefix, layer.layer, layer.experts,
            layer.width);
    const auto place = static_cast<std::size_t>(layer.layer);
    if (place >= found.size()) found.resize(place + 1);
    require(found[place].empty(), Errc::bad_argument, "{}: layer {} is given twice", layer.prefix, layer.layer);
    found[place] = store.has(layer.prefix + ".gate_up_proj") ? find_merged(store, layer) : find_single(store, layer);
  }
  return found;
}

std::vector<const SafetensorsFile*> files_of(const std::vector<std::vector<StoredExpert>>& layers) {
  std::set<const SafetensorsFile*> files;
  for (const auto& layer : layers)
    for (const StoredExpert& expert : layer)
      for (const StoredLinear* part : expert.parts()) {
        files.insert(part->weight.file);
        if (part->scale) files.insert(part->scale.file);
      }
  return {files.begin(), files.end()};
}

}  // namespace millrace
