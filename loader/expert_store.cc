#include "loader/expert_store.h"

#include <utility>

#include "loader/expert_image.h"
#include "loader/load_linear.h"
#include "runtime/error.h"

namespace millrace {
namespace {

std::uint64_t file_bytes_of(const StoredExpert& expert) {
  std::uint64_t bytes = 0;
  for (const StoredLinear* part : expert.parts()) bytes += part->bytes() + part->scale_bytes();
  return bytes;
}

}  // namespace

ExpertStore::ExpertStore(WeightStore& store, const std::vector<ExpertLayer>& layers)
    : options_(store.options()), layers_(find_experts(store, layers)) {
  WeightOptions resident = options_;
  resident.resident = true;
  options_.resident = false;
  slot_bytes_ = ExpertImages(layers_, options_).slot_bytes();
  for (const auto& layer : layers_) {
    loaded_.emplace_back(layer.size());
    for (const StoredExpert& expert : layer) {
      file_bytes_ += file_bytes_of(expert);
      for (const StoredLinear* stored : expert.parts()) {
        owned_bytes_ += millrace::owned_bytes(*stored, options_);
        resident_bytes_ += footprint_of(*stored, resident);
      }
    }
  }
}

std::int64_t ExpertStore::count() const noexcept {
  std::int64_t count = 0;
  for (const auto& layer : layers_) count += std::ssize(layer);
  return count;
}

const ExpertStore::Loaded& ExpertStore::load(int layer, int expert) {
  const auto place = static_cast<std::size_t>(layer), index = static_cast<std::size_t>(expert);
  const StoredExpert& stored = layers_[place][index];
  Loaded& loaded = loaded_[place][index];
  if (loaded.resident) return loaded;
  LoadedLinear gate = load_linear(stored.gate, options_);
  LoadedLinear up = load_linear(stored.up, options_);
  loaded.down = load_linear(stored.down, options_);
  loaded.gate = std::move(gate);
  loaded.up = std::move(up);
  loaded.resident = true;
  return loaded;
}

std::uint64_t ExpertStore::expert_bytes(int layer) const {
  return memory_bytes(layers_.at(static_cast<std::size_t>(layer)).at(0), options_);
}

void ExpertStore::demand(const ExpertDemand& demand) {
  if (cache_) cache_->demand(demand);
}

std::optional<ExpertLease> ExpertStore::try_acquire(int layer, int expert) {
  return cache_ ? cache_->try_acquire(layer, expert) : acquire(layer, expert);
}

ExpertLease ExpertStore::acquire(int layer, int expert) {
  if (cache_) return cache_->acquire(layer, expert);
  require(layer >= 0 && layer < std::ssize(layers_) && expert >= 0 &&
              expert < std::ssize(layers_[static_cast<std::size_t>(layer)]),
          Errc::bad_argument, "layer {} has no expert {}", layer, expert);
  const Loaded& loaded = load(layer, expert);
  return ExpertLease(*this, layer, expert, {loaded.gate.tensor, loaded.up.tensor, loaded.down.tensor});
}

void ExpertStore::preload(const Progress& progress) {
  options_.resident = true;
  std::uint64_t done = 0;
  for (int layer = 0; layer < std::ssize(layers_); ++layer)
    for (int expert = 0; expert < std::ssize(layers_[static_cast<std::size_t>(layer)]); ++expert) {
      load(layer, expert);
      done += file_bytes_of(layers_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)]);
      if (progress) progress(done, file_bytes_);
    }
}

void ExpertStore::stream(const ExpertCacheOptions& options) {
  cache_ = std::make_unique<ExpertCache>(layers_, options_, options);
}

}  // namespace millrace
