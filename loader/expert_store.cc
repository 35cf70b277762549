#include "loader/expert_store.h"

#include <algorithm>
#include <array>
#include <utility>

#include "runtime/error.h"

namespace millrace {
namespace {

std::uint64_t file_bytes_of(const StoredLinear& stored) {
  return stored.bytes() + stored.scale_bytes();
}

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

}  // namespace

MappedExperts::MappedExperts(WeightStore& store, const std::vector<ExpertLayer>& layers) : options_(store.options()) {
  WeightOptions resident = options_;
  resident.resident = true;
  options_.resident = false;
  for (const ExpertLayer& layer : layers) {
    require(layer.layer >= 0 && layer.experts > 0 && layer.width > 0 && layer.width <= INT32_MAX && layer.hidden > 0,
            Errc::bad_argument, "{}: layer {} with {} experts of width {}", layer.prefix, layer.layer, layer.experts,
            layer.width);
    const auto place = static_cast<std::size_t>(layer.layer);
    if (place >= layers_.size()) layers_.resize(place + 1);
    require(layers_[place].empty(), Errc::bad_argument, "{}: layer {} is given twice", layer.prefix, layer.layer);
    layers_[place] = store.has(layer.prefix + ".gate_up_proj") ? find_merged(store, layer) : find_single(store, layer);
    for (const Expert& expert : layers_[place])
      for (const StoredLinear* stored : {&expert.gate, &expert.up, &expert.down}) {
        file_bytes_ += file_bytes_of(*stored);
        owned_bytes_ += millrace::owned_bytes(*stored, options_);
        resident_bytes_ += millrace::owned_bytes(*stored, resident);
      }
  }
}

std::vector<MappedExperts::Expert> MappedExperts::find_single(WeightStore& store, const ExpertLayer& layer) {
  std::vector<Expert> experts;
  for (std::int64_t e = 0; e < layer.experts; ++e) {
    const std::string stem = fmt::format("{}.{}.", layer.prefix, e);
    Expert& expert = experts.emplace_back();
    expert.gate = store.find_linear(stem + "gate_proj.weight", layer.width, layer.hidden);
    expert.up = store.find_linear(stem + "up_proj.weight", layer.width, layer.hidden);
    expert.down = store.find_linear(stem + "down_proj.weight", layer.hidden, layer.width);
  }
  return experts;
}

std::vector<MappedExperts::Expert> MappedExperts::find_merged(WeightStore& store, const ExpertLayer& layer) {
  const std::int64_t count = layer.experts, width = layer.width, hidden = layer.hidden;
  const bool transposed = is_transposed(store.checkpoint(), layer);
  const StoredLinear both = store.find_stacked(layer.prefix + ".gate_up_proj", count, 2 * width, hidden, 2, transposed);
  const StoredLinear down = store.find_stacked(layer.prefix + ".down_proj", count, hidden, width, 1, transposed);
  std::vector<Expert> experts;
  for (std::int64_t e = 0; e < count; ++e) {
    Expert& expert = experts.emplace_back();
    expert.gate = cut_linear(both, {.first = 2 * e * width, .runs = 1, .rows = width, .stride = 0});
    expert.up = cut_linear(both, {.first = (2 * e + 1) * width, .runs = 1, .rows = width, .stride = 0});
    expert.down = cut_linear(down, {.first = e * hidden, .runs = 1, .rows = hidden, .stride = 0});
  }
  return experts;
}

void MappedExperts::load(Expert& expert) {
  if (expert.resident) return;
  LoadedLinear gate = load_linear(expert.gate, options_);
  LoadedLinear up = load_linear(expert.up, options_);
  expert.loaded_down = load_linear(expert.down, options_);
  expert.loaded_gate = std::move(gate);
  expert.loaded_up = std::move(up);
  expert.resident = true;
}

std::uint64_t MappedExperts::expert_bytes(int layer) const {
  const auto& experts = layers_.at(static_cast<std::size_t>(layer));
  WeightOptions in_memory = options_;
  in_memory.resident = true;
  std::uint64_t bytes = 0;
  for (const StoredLinear* stored : {&experts.at(0).gate, &experts.at(0).up, &experts.at(0).down})
    bytes += millrace::owned_bytes(*stored, in_memory);
  return bytes;
}

ExpertLease MappedExperts::acquire(int layer, int expert) {
  const auto place = static_cast<std::size_t>(layer), index = static_cast<std::size_t>(expert);
  require(layer >= 0 && place < layers_.size() && expert >= 0 && index < layers_[place].size(), Errc::bad_argument,
          "layer {} has no expert {}", layer, expert);
  Expert& found = layers_[place][index];
  load(found);
  return ExpertLease(*this, layer, expert,
                     {found.loaded_gate.tensor, found.loaded_up.tensor, found.loaded_down.tensor});
}

void MappedExperts::preload(const Progress& progress) {
  options_.resident = true;
  std::uint64_t done = 0;
  for (std::vector<Expert>& layer : layers_)
    for (Expert& expert : layer) {
      load(expert);
      done += file_bytes_of(expert.gate) + file_bytes_of(expert.up) + file_bytes_of(expert.down);
      if (progress) progress(done, file_bytes_);
    }
}

}  // namespace millrace
