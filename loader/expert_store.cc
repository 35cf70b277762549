#include "loader/expert_store.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "loader/load_linear.h"
#include "loader/tensor_stream.h"
#include "runtime/error.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

constexpr std::int64_t most_streams = 8;  // that read at a time

std::uint64_t file_bytes_of(const StoredExpert& expert) {
  std::uint64_t bytes = 0;
  for (const StoredLinear* part : expert.parts()) bytes += part->bytes() + part->scale_bytes();
  return bytes;
}

// Of its parts, one behind the other.
std::uint64_t placed_bytes_of(const StoredExpert& expert, const WeightOptions& options) {
  std::uint64_t bytes = 0;
  for (const StoredLinear* part : expert.parts()) bytes += placed_bytes(*part, options);
  return bytes;
}

}  // namespace

ExpertStore::ExpertStore(WeightStore& store, const std::vector<ExpertLayer>& layers)
    : options_(store.options()), images_(find_experts(store, layers), options_) {
  WeightOptions resident = options_;
  resident.resident = true;
  options_.resident = false;
  for (const auto& layer : this->layers()) {
    loaded_.emplace_back(layer.size());
    std::uint64_t of_layer = 0;
    for (const StoredExpert& expert : layer) {
      file_bytes_ += file_bytes_of(expert);
      of_layer += placed_bytes_of(expert, resident);
      std::uint64_t viewed = 0;
      for (const StoredLinear* stored : expert.parts()) {
        owned_bytes_ += millrace::owned_bytes(*stored, options_);
        viewed += viewed_bytes(*stored, resident);
      }
      most_viewed_ = std::max(most_viewed_, viewed);
    }
    resident_bytes_ += Buffer::footprint(of_layer);
  }
}

std::int64_t ExpertStore::count() const noexcept {
  std::int64_t count = 0;
  for (const auto& layer : layers()) count += std::ssize(layer);
  return count;
}

std::uint64_t ExpertStore::preload_bytes() const noexcept {
  const std::int64_t threads = options_.parallel != nullptr ? options_.parallel->threads() : 1;
  const auto streams = static_cast<std::uint64_t>(std::min({threads, most_streams, count()}));
  return std::min(file_bytes_, streams * TensorStream::least_buffer_bytes) + streams * most_viewed_;
}

const ExpertStore::Loaded& ExpertStore::load(int layer, int expert, const WeightOptions& options,
                                             const ByteSource& source) {
  const auto place = static_cast<std::size_t>(layer), index = static_cast<std::size_t>(expert);
  const StoredExpert& of_files = stored(layer, expert);
  Loaded& loaded = loaded_[place][index];
  if (is_mapped()) map_pages(of_files, loaded);
  if (loaded.ready) return loaded;
  std::array<Tensor, 3> tensors;
  std::byte* memory = loaded.place;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const StoredLinear& part = *of_files.parts()[i];
    if (memory != nullptr) {
      tensors[i] = load_linear(part, options, source, memory);
      memory += placed_bytes(part, options);
    } else {
      loaded.kept[i] = load_linear(part, options, source);
      tensors[i] = loaded.kept[i].tensor;
    }
  }
  loaded.weights = {tensors[0], tensors[1], tensors[2]};
  loaded.ready = true;
  return loaded;
}

// One expert alone would end and begin within large pages, and lie on small ones, which are slower to read.
void ExpertStore::take_memory() {
  for (std::size_t layer = 0; layer < layers().size(); ++layer) {
    std::uint64_t bytes = 0;
    for (const StoredExpert& expert : layers()[layer]) bytes += placed_bytes_of(expert, options_);
    std::byte* place = memory_.emplace_back(static_cast<std::size_t>(bytes), "experts").data();
    for (std::size_t i = 0; i < loaded_[layer].size(); ++i) {
      loaded_[layer][i].place = place;
      place += placed_bytes_of(layers()[layer][i], options_);
    }
  }
}

// Reads what the system would otherwise read when it is touched, where a failure would end the process.
void ExpertStore::map_pages(const StoredExpert& stored, Loaded& loaded) {
  if (loaded.mapping == mapping_) return;
  const std::uint64_t bytes = file_bytes_of(stored);
  if (mapped_bytes_ + bytes > mapped_limit_) {
    for (const SafetensorsFile* file : files_of(layers())) file->file().release(0, file->file().bytes());
    mapped_bytes_ = 0;
    ++mapping_;
  }
  mapped_bytes_ += bytes;
  for (const StoredLinear* part : stored.parts())
    for (const TensorRange& range : ranges_of(*part)) mapped_bytes().view(range.tensor, range.begin, range.count);
  loaded.mapping = mapping_;
}

void ExpertStore::stay_mapped(std::uint64_t bytes) {
  options_.format = WeightFormat::fp8;
  std::uint64_t kept = 0, largest = 0;
  for (const auto& layer : layers())
    for (const StoredExpert& expert : layer) {
      largest = std::max(largest, file_bytes_of(expert));
      for (const StoredLinear* stored : expert.parts()) kept += footprint_of(*stored, options_);
    }
  // Those in use when pages are let go are mapped again, uncounted.
  const std::uint64_t uncounted = ExpertMlp::max_leases * largest, least = kept + uncounted + largest;
  require(
      bytes >= least, Errc::out_of_memory,
      "experts in mapped files within {} bytes: at least {} are needed, {} of them for what cannot be used in place",
      bytes, least, kept);
  mapped_limit_ = bytes - kept - uncounted;
}

std::uint64_t ExpertStore::expert_bytes(int layer) const {
  return memory_bytes(layers().at(static_cast<std::size_t>(layer)).at(0), options_);
}

void ExpertStore::demand(const ExpertDemand& demand) {
  if (cache_) cache_->demand(demand);
}

void ExpertStore::hint(const ExpertHint& hint) {
  if (cache_) cache_->hint(hint);
}

std::optional<ExpertLease> ExpertStore::try_acquire(int layer, int expert) {
  return cache_ ? cache_->try_acquire(layer, expert) : acquire(layer, expert);
}

ExpertLease ExpertStore::acquire(int layer, int expert) {
  if (cache_) return cache_->acquire(layer, expert);
  require(layer >= 0 && layer < std::ssize(layers()) && expert >= 0 &&
              expert < std::ssize(layers()[static_cast<std::size_t>(layer)]),
          Errc::bad_argument, "layer {} has no expert {}", layer, expert);
  const Loaded& loaded = load(layer, expert, options_, mapped_bytes());
  return ExpertLease(*this, layer, expert, loaded.weights);
}

// Experts [begin, end), counted through all layers, each read while others are converted.
void ExpertStore::load_range(std::int64_t begin, std::int64_t end, std::size_t more_bytes,
                             const std::function<void(const StoredExpert&)>& loaded) {
  std::vector<std::pair<int, int>> range;
  std::vector<TensorRange> order;
  std::int64_t count = 0;
  for (int layer = 0; layer < std::ssize(layers()); ++layer)
    for (int expert = 0; expert < std::ssize(layers()[static_cast<std::size_t>(layer)]); ++expert, ++count) {
      if (count < begin || count >= end) continue;
      range.emplace_back(layer, expert);
      for (const StoredLinear* part : stored(layer, expert).parts()) {
        const std::vector<TensorRange> of_part = ranges_of(*part);
        order.insert(order.end(), of_part.begin(), of_part.end());
      }
    }
  TensorStream stream(std::move(order), nullptr, TensorStream::least_buffer_bytes + more_bytes);
  WeightOptions options = options_;
  options.parallel = nullptr;
  for (const auto& [layer, expert] : range) {
    load(layer, expert, options, stream);
    stream.drop_views();
    loaded(stored(layer, expert));
  }
}

void ExpertStore::preload(const Progress& progress, std::size_t more_bytes) {
  options_.resident = true;
  take_memory();
  std::atomic<std::uint64_t> done = 0;
  std::uint64_t reported = 0;
  const std::int64_t streams =
      options_.parallel == nullptr ? 1 : std::min<std::int64_t>(options_.parallel->threads(), most_streams);
  const auto load_run = [&](std::int64_t begin, std::int64_t end, int worker) {
    load_range(begin, end, more_bytes / static_cast<std::size_t>(streams), [&](const StoredExpert& expert) {
      const std::uint64_t bytes = file_bytes_of(expert), so_far = done.fetch_add(bytes) + bytes;
      if (worker > 0 || !progress) return;
      reported = so_far;
      progress(so_far, file_bytes_);
    });
  };
  // Each thread has a stream of its own, and so all of them take part in making the pages of memory.
  if (options_.parallel != nullptr)
    options_.parallel->for_range(count(), (count() + streams - 1) / streams, load_run);
  else
    load_run(0, count(), 0);
  if (progress && reported < file_bytes_) progress(file_bytes_, file_bytes_);
}

void ExpertStore::stream(const ExpertCacheOptions& options) {
  cache_ = std::make_unique<ExpertCache>(images_, options);
}

}  // namespace millrace
