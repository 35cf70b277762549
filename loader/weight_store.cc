#include "loader/weight_store.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "loader/convert.h"
#include "runtime/error.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

// Routed experts, prediction layers that nobody will ask for and what belongs to no text model are not the store's to
// load.
bool is_resident(std::string_view name, int mtp_layers) {
  if (name.starts_with("mtp.")) return mtp_layer_of(name) >= 0 && mtp_layer_of(name) < mtp_layers;
  return is_text_tensor(name) && name.find(".mlp.experts.") == name.npos;
}

std::int64_t elements_of(const TensorEntry& entry) {
  return static_cast<std::int64_t>(entry.bytes) / size_of(entry.dtype);
}

}  // namespace

int mtp_layer_of(std::string_view canonical) noexcept {
  constexpr std::string_view prefix = "mtp.layers.";
  int layer = -1;
  if (!canonical.starts_with(prefix)) return -1;
  const char* end = canonical.data() + canonical.size();
  const auto [rest, failure] = std::from_chars(canonical.data() + prefix.size(), end, layer);
  return failure == std::errc() && rest != end && *rest == '.' && layer < max_mtp_layers ? layer : -1;
}

WeightStore::WeightStore(const Checkpoint& checkpoint, WeightOptions options)
    : checkpoint_(&checkpoint), options_(std::move(options)) {
  for (const auto& [name, stored] : checkpoint.tensors())
    if (is_resident(name, options_.mtp_layers)) total_bytes_ += stored.entry->bytes;
}

StoredTensor WeightStore::find(std::string_view name, std::span<const std::int64_t> shape) {
  const StoredTensor stored = checkpoint_->demand(name, shape);
  used_.emplace(name);
  return stored;
}

StoredLinear WeightStore::find_linear(std::string_view name, std::int64_t out, std::int64_t in,
                                      std::int64_t segments_hint) {
  StoredLinear stored = millrace::find_linear(*checkpoint_, name, out, in, segments_hint);
  use(name, stored);
  return stored;
}

StoredLinear WeightStore::find_stacked(std::string_view name, std::int64_t matrices, std::int64_t out, std::int64_t in,
                                       std::int64_t parts, bool transposed) {
  StoredLinear stored = millrace::find_stacked(*checkpoint_, name, matrices, out, in, parts, transposed);
  use(name, stored);
  return stored;
}

void WeightStore::use(std::string_view name, const StoredLinear& stored) {
  used_.emplace(name);
  if (stored.scale) used_.emplace(canonical_name(stored.scale.entry->name));
}

void WeightStore::report(std::uint64_t bytes) {
  if (stream_) stream_->drop_views();
  done_bytes_ = std::min(done_bytes_ + bytes, total_bytes_);
  if (options_.progress) options_.progress(done_bytes_, total_bytes_);
}

std::vector<float> WeightStore::vector(std::string_view name, std::int64_t count, bool pinned) {
  const StoredTensor stored = find(name, std::array{count});
  require_float(stored);
  std::vector<float> values(static_cast<std::size_t>(count));
  footprints_[std::string(name)] = values.size() * sizeof(float);
  if (options_.headers_only) {
    plan_reading(stored);
    return values;
  }
  convert_to_f32(stored.entry->dtype, bytes_of(stored).data(), count, values.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool good = pinned ? std::isfinite(values[i]) : !std::isnan(values[i]);
    require(good, Errc::bad_file, "{}: tensor {}: element {} is {}", stored.file->path(), stored.entry->name, i,
            values[i]);
  }
  if (rounds_as_hf(options_.numerics) && !pinned)
    for (float& value : values) value = round_to_bf16(value);
  report(stored.entry->bytes);
  return values;
}

Tensor WeightStore::linear(std::string_view name, std::int64_t out, std::int64_t in, std::int64_t segments_hint) {
  const StoredLinear stored = find_linear(name, out, in, segments_hint);
  if (const auto known = linears_.find(name); known != linears_.end()) return known->second;
  return linears_.emplace(name, load(name, stored)).first->second;
}

Tensor WeightStore::linear_rows(std::string_view name, const RowRuns& rows, std::int64_t in) {
  const StoredLinear whole = find_chunked(*checkpoint_, name, rows.runs * rows.stride, in, rows.runs);
  use(name, whole);
  const std::string key = fmt::format("{} from row {}", name, rows.first);
  if (const auto known = linears_.find(key); known != linears_.end()) return known->second;
  return linears_.emplace(key, load(name, cut_linear(whole, rows))).first->second;
}

LinearSketch WeightStore::sketch(std::string_view name) {
  if (const auto known = sketches_.find(name); known != sketches_.end()) return known->second;
  const Tensor& weight = linears_.find(name)->second;
  const std::size_t bytes = sketch_bytes(weight.dim(0), weight.dim(1));
  const std::string title = fmt::format("mtp.sketch of {}", name);
  LinearSketch sketch{.outputs = weight.dim(0), .inputs = weight.dim(1)};
  if (options_.headers_only) {
    count(title, bytes);
  } else {
    Buffer memory(bytes, title.c_str());
    const Parallel one(1);
    sketch = make_sketch(weight, options_.parallel != nullptr ? *options_.parallel : one, memory.data());
    keep(title, std::move(memory));
  }
  return sketches_.emplace(name, sketch).first->second;
}

std::vector<float> WeightStore::vector_rows(std::string_view name, const RowRuns& rows) {
  const std::vector<float> whole = vector(name, rows.runs * rows.stride);
  std::vector<float> part;
  for (std::int64_t run = 0; run < rows.runs; ++run) {
    const auto begin = whole.begin() + rows.first + run * rows.stride;
    part.insert(part.end(), begin, begin + rows.rows);
  }
  return part;
}

void WeightStore::count(std::string_view name, std::uint64_t bytes) {
  owned_bytes_ += bytes;
  footprints_[std::string(name)] += Buffer::footprint(bytes);
}

std::uint64_t WeightStore::loading_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const TensorRange& range : planned_) bytes += range.count;
  return std::min<std::uint64_t>(bytes, TensorStream::least_buffer_bytes) + most_viewed_;
}

void WeightStore::start_over() {
  owned_bytes_ = 0;
  footprints_.clear();
  linears_.clear();
  sketches_.clear();
  routers_.clear();
  tables_.clear();
  planned_.clear();
}

void WeightStore::start_loading(std::size_t more_bytes) {
  stream_ = std::make_unique<TensorStream>(std::move(planned_), options_.parallel,
                                           TensorStream::least_buffer_bytes + more_bytes);
  start_over();
  options_.headers_only = false;
}

void WeightStore::plan_reading(const StoredTensor& stored) {
  planned_.push_back({stored, 0, stored.entry->bytes});
}

const ByteSource& WeightStore::source() const noexcept {
  return stream_ ? static_cast<const ByteSource&>(*stream_) : mapped_bytes();
}

std::span<const std::byte> WeightStore::bytes_of(const StoredTensor& stored) const {
  return source().view(stored, 0, stored.entry->bytes);
}

Tensor WeightStore::load(std::string_view name, const StoredLinear& stored) {
  footprints_[std::string(name)] += footprint_of(stored, options_);
  if (options_.headers_only) {
    owned_bytes_ += millrace::owned_bytes(stored, options_);
    most_viewed_ = std::max(most_viewed_, viewed_bytes(stored, options_));
    const std::vector<TensorRange> ranges = ranges_of(stored);
    planned_.insert(planned_.end(), ranges.begin(), ranges.end());
    return plan_linear(stored, options_);
  }
  LoadedLinear loaded = load_linear(stored, options_, source());
  if (loaded.memory.bytes() > 0) keep(std::move(loaded.memory));
  if (loaded.scales.bytes() > 0) keep(std::move(loaded.scales));
  report(stored.bytes() + stored.scale_bytes());
  if (loaded.unscaled && unscaled_++ == 0) first_unscaled_ = stored.weight.entry->name;
  return loaded.tensor;
}

Tensor WeightStore::router(std::string_view name, std::int64_t experts, std::int64_t hidden, Dtype dtype) {
  const StoredTensor stored = find(name, std::array{experts, hidden});
  require_float(stored);
  if (const auto known = routers_.find(name); known != routers_.end() && known->second.dtype() == dtype)
    return known->second;
  return routers_.insert_or_assign(std::string(name), load_router(name, stored, dtype)).first->second;
}

Tensor WeightStore::load_router(std::string_view name, const StoredTensor& stored, Dtype dtype) {
  const std::int64_t elements = elements_of(*stored.entry);
  const auto bytes = static_cast<std::size_t>(elements * size_of(dtype));
  if (options_.headers_only) {
    plan_reading(stored);
    most_viewed_ = std::max(most_viewed_, stored.entry->bytes);
    if (options_.resident) count(name, bytes);
    return Tensor(dtype, stored.entry->shape, stored.file->data(*stored.entry).data());
  }
  report(stored.entry->bytes);
  const bool rounds = dtype == Dtype::f32 && rounds_as_hf(options_.numerics);
  const bool as_stored = stored.entry->dtype == dtype && !rounds;
  if (as_stored && options_.resident) return view(name, stored);
  const std::span<const std::byte> data = bytes_of(stored);
  if (as_stored) return view(name, stored);
  Buffer memory(bytes, stored.entry->name.c_str());
  if (dtype == Dtype::bf16) {
    convert_to_bf16(stored.entry->dtype, data.data(), elements, reinterpret_cast<Bfloat16*>(memory.data()));
  } else {
    auto* values = reinterpret_cast<float*>(memory.data());
    convert_to_f32(stored.entry->dtype, data.data(), elements, values);
    for (std::int64_t i = 0; rounds && i < elements; ++i) values[i] = round_to_bf16(values[i]);
  }
  return Tensor(dtype, stored.entry->shape, keep(name, std::move(memory)));
}

Tensor WeightStore::embedding(std::string_view name, std::int64_t vocab, std::int64_t hidden) {
  const StoredTensor stored = find(name, std::array{vocab, hidden});
  require_float(stored);
  if (const auto known = tables_.find(name); known != tables_.end()) return known->second;
  report(stored.entry->bytes);
  return tables_.emplace(name, view(name, stored)).first->second;
}

// The file's bytes, or a copy: where that is wanted, or where they are not aligned to their element.
Tensor WeightStore::view(std::string_view name, const StoredTensor& stored) {
  const TensorEntry& entry = *stored.entry;
  const bool aligned = entry.offset % static_cast<std::uint64_t>(size_of(entry.dtype)) == 0;
  if (options_.headers_only || (aligned && !options_.resident)) {
    if (options_.headers_only) plan_reading(stored);
    if (options_.resident) count(name, entry.bytes);
    return Tensor(entry.dtype, entry.shape, stored.file->data(entry).data());
  }
  Buffer memory(static_cast<std::size_t>(entry.bytes), entry.name.c_str());
  source().copy(stored, 0, {memory.data(), memory.bytes()});
  return Tensor(entry.dtype, entry.shape, keep(name, std::move(memory)));
}

std::vector<std::string> WeightStore::warnings() const {
  if (unscaled_ == 0) return {};
  return {
      fmt::format("{}: every scale of {} FP8 weights, the first of them {}, is 1: they were cast to FP8 without "
                  "scaling, which loses small values",
                  checkpoint_->path(), unscaled_, first_unscaled_)};
}

const std::byte* WeightStore::keep(Buffer memory) {
  owned_bytes_ += memory.bytes();
  return memory_.emplace_back(std::move(memory)).data();
}

const std::byte* WeightStore::keep(std::string_view name, Buffer memory) {
  footprints_[std::string(name)] += Buffer::footprint(memory.bytes());
  return keep(std::move(memory));
}

std::vector<std::string> WeightStore::unused() const {
  std::vector<std::string> names;
  for (const auto& [name, stored] : checkpoint_->tensors())
    if (!used_.contains(name)) names.push_back(stored.entry->name);
  return names;
}

}  // namespace millrace
