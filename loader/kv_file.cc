#include "loader/kv_file.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "loader/safetensors.h"
#include "loader/safetensors_writer.h"
#include "loader/xxhash.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view format = "millrace-kv-2";

// The digest of everything a file says, the data following what is given here.
XxHash64 begin_digest(std::string_view fingerprint, std::string_view cached, std::string_view fixed) {
  XxHash64 digest;
  for (std::string_view text : {format, fingerprint, cached, fixed}) {
    digest.add(text);
    digest.add(std::string_view("\0", 1));
  }
  return digest;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::int64_t row_bytes(const KvCache& cache, int layer, KvCache::Part part) {
  const LayerKvShape& shape = cache.shape(layer);
  return (part == KvCache::Part::keys ? shape.qk_dim : shape.v_dim) * size_of(cache.dtype());
}

std::vector<TensorHeader> headers_of(const KvCache& cache, std::int64_t tokens,
                                     std::span<const std::int64_t> layer_rows) {
  std::vector<TensorHeader> headers = {{"tokens", Dtype::i32, {tokens}}, {"positions", Dtype::i32, {tokens}}};
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    const LayerKvShape& shape = cache.shape(static_cast<int>(layer));
    const std::int64_t rows = layer_rows[layer];
    headers.push_back({fmt::format("layers.{}.keys", layer), cache.dtype(), {shape.kv_heads, rows, shape.qk_dim}});
    headers.push_back({fmt::format("layers.{}.values", layer), cache.dtype(), {shape.kv_heads, rows, shape.v_dim}});
  }
  return headers;
}

// Calls visit(part, head, row, end, bytes) for pieces of the rows [first, end) of a layer in the order of a file: keys,
// then values, head by head. `bytes` is memory for (end - row, width).
template <class Visit>
void for_rows(const KvCache& cache, int layer, std::int64_t first, std::int64_t end, Visit&& visit) {
  std::vector<std::byte> piece;
  for (const KvCache::Part part : {KvCache::Part::keys, KvCache::Part::values})
    for (std::int64_t head = 0; head < cache.shape(layer).kv_heads; ++head)
      for (std::int64_t row = first, behind; row < end; row = behind) {
        behind = std::min(end, row + KvCache::page_rows);
        piece.resize(static_cast<std::size_t>((behind - row) * row_bytes(cache, layer, part)));
        visit(part, head, row, behind, std::span(piece));
      }
}

// Calls sink(bytes) with all data of the file in their order.
template <class Sink>
void for_all_data(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions, const KvCache& cache,
                  Sink&& sink) {
  sink(std::as_bytes(tokens));
  sink(std::as_bytes(positions));
  for (int layer = 0; layer < static_cast<int>(cache.layers()); ++layer)
    for_rows(cache, layer, cache.first_held(layer), cache.length(),
             [&](KvCache::Part part, std::int64_t head, std::int64_t row, std::int64_t end, std::span<std::byte> rows) {
               cache.copy_rows(layer, part, head, row, end, rows.data());
               sink(rows);
             });
}

class Reader {
 public:
  Reader(const std::filesystem::path& path, std::string_view fingerprint, KvCache& cache)
      : file_(path), cache_(cache), fingerprint_(fingerprint) {}

  KvFileTokens read() {
    check_metadata();
    check_tensors();
    return read_data();
  }

 private:
  const std::string& path() const { return file_.path(); }

  const std::string& metadata(const char* key) const {
    const auto found = file_.metadata().find(key);
    require(found != file_.metadata().end(), Errc::bad_file, "{}: no {} in the metadata; no saved session", path(),
            key);
    return found->second;
  }

  void check_metadata() {
    require(metadata("format") == format, Errc::bad_file, "{}: format \"{}\", expected \"{}\"", path(),
            metadata("format").substr(0, 40), format);
    require(metadata("fingerprint") == fingerprint_, Errc::bad_file,
            "{}: saved with another model, other numerics or another window: fingerprint {}, expected {}", path(),
            metadata("fingerprint").substr(0, 64), fingerprint_);
    cached_ = number("cached");
    fixed_ = number("fixed");
  }

  std::int64_t number(const char* key) const {
    const std::string& text = metadata(key);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size() && value >= 0, Errc::bad_file,
            "{}: \"{}\" {} tokens, expected a number", path(), text.substr(0, 40), key);
    return value;
  }

  // Rows of a layer in the file, of which only `allowed` numbers make sense.
  std::int64_t rows_of(int layer) const {
    const LayerKvShape& shape = cache_.shape(layer);
    const TensorEntry* keys = file_.find(fmt::format("layers.{}.keys", layer));
    if (shape.window == 0 || keys == nullptr || keys->shape.size() != 3) return cached_;
    const std::int64_t least = std::min(shape.window, cached_), most = std::min(cache_.ring_rows(layer), cached_);
    require(keys->shape[1] >= least && keys->shape[1] <= most, Errc::bad_file,
            "{}: tensor \"{}\" holds {} rows, expected {} to {}", path(), keys->name, keys->shape[1], least, most);
    return keys->shape[1];
  }

  void check_tensors() {
    const TensorEntry* tokens = file_.find("tokens");
    require(tokens != nullptr && tokens->shape.size() == 1, Errc::bad_file, "{}: no list of tokens", path());
    tokens_ = tokens->shape[0];
    require(tokens_ <= cache_.capacity(), Errc::bad_argument, "{}: a session of {} tokens, the context holds {}",
            path(), tokens_, cache_.capacity());
    require(cached_ <= tokens_, Errc::bad_file, "{}: {} cached tokens of {}", path(), cached_, tokens_);
    require(fixed_ <= tokens_, Errc::bad_file, "{}: {} fixed tokens of {}", path(), fixed_, tokens_);
    for (int layer = 0; layer < static_cast<int>(cache_.layers()); ++layer) layer_rows_.push_back(rows_of(layer));
    const std::vector<TensorHeader> expected = headers_of(cache_, tokens_, layer_rows_);
    require(file_.entries().size() == expected.size(), Errc::bad_file, "{}: {} tensors, expected {}", path(),
            file_.entries().size(), expected.size());
    for (const TensorHeader& want : expected) {
      const TensorEntry* found = file_.find(want.name);
      require(found != nullptr, Errc::bad_file, "{}: no tensor \"{}\"", path(), want.name);
      require(found->dtype == want.dtype && found->shape == want.shape, Errc::bad_file,
              "{}: tensor \"{}\" is {} {}, expected {} {}", path(), want.name, name_of(found->dtype),
              shape_text(found->shape), name_of(want.dtype), shape_text(want.shape));
    }
  }

  // The bytes of a tensor from `begin` on.
  void take(const TensorEntry& tensor, std::uint64_t begin, std::span<std::byte> target) {
    TensorEntry part;
    part.name = tensor.name;
    part.offset = tensor.offset + begin;
    part.bytes = target.size();
    file_.read_into(part, target);
    digest_.add(as_text(target));
  }

  void take_layer(int layer) {
    const std::array tensors = {file_.find(fmt::format("layers.{}.keys", layer)),
                                file_.find(fmt::format("layers.{}.values", layer))};
    std::array<std::uint64_t, tensors.size()> taken{};
    const std::int64_t first = cached_ - layer_rows_[static_cast<std::size_t>(layer)];
    cache_.begin_with(layer, first);
    for_rows(cache_, layer, first, cached_,
             [&](KvCache::Part part, std::int64_t head, std::int64_t row, std::int64_t end, std::span<std::byte> rows) {
               const auto which = static_cast<std::size_t>(part);
               take(*tensors[which], taken[which], rows);
               taken[which] += rows.size();
               cache_.take_rows(layer, part, head, row, end, rows.data());
             });
  }

  KvFileTokens read_data() {
    KvFileTokens result;
    result.fixed = fixed_;
    digest_ = begin_digest(fingerprint_, metadata("cached"), metadata("fixed"));
    result.tokens.resize(static_cast<std::size_t>(tokens_));
    result.positions.resize(static_cast<std::size_t>(tokens_));
    take(*file_.find("tokens"), 0, std::as_writable_bytes(std::span(result.tokens)));
    take(*file_.find("positions"), 0, std::as_writable_bytes(std::span(result.positions)));
    cache_.reserve(cached_);
    for (int layer = 0; layer < static_cast<int>(cache_.layers()); ++layer) take_layer(layer);
    const std::string found = digest_.hex();
    require(found == metadata("xxh64"), Errc::bad_file, "{}: damaged: its contents have the checksum {}, expected {}",
            path(), found, metadata("xxh64").substr(0, 16));
    cache_.advance(cached_);
    return result;
  }

  SafetensorsFile file_;
  KvCache& cache_;
  std::string fingerprint_;
  XxHash64 digest_;
  std::int64_t tokens_ = 0, cached_ = 0, fixed_ = 0;
  std::vector<std::int64_t> layer_rows_;
};

}  // namespace

void write_kv_file(const std::filesystem::path& path, std::string_view fingerprint,
                   std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions, std::int64_t fixed,
                   const KvCache& cache) {
  require(tokens.size() == positions.size() && std::ssize(tokens) >= cache.length(), Errc::bad_argument,
          "{} tokens and {} positions with {} cached rows", tokens.size(), positions.size(), cache.length());
  std::vector<std::int64_t> layer_rows;
  for (int layer = 0; layer < static_cast<int>(cache.layers()); ++layer)
    layer_rows.push_back(cache.length() - cache.first_held(layer));
  const std::string cached_text = fmt::format("{}", cache.length()), fixed_text = fmt::format("{}", fixed);
  XxHash64 digest = begin_digest(fingerprint, cached_text, fixed_text);
  for_all_data(tokens, positions, cache, [&](std::span<const std::byte> bytes) { digest.add(as_text(bytes)); });
  const SafetensorsMetadata metadata = {{"format", std::string(format)},
                                        {"fingerprint", std::string(fingerprint)},
                                        {"cached", cached_text},
                                        {"fixed", fixed_text},
                                        {"xxh64", digest.hex()}};
  SafetensorsWriter writer(path, metadata, headers_of(cache, std::ssize(tokens), layer_rows));
  for_all_data(tokens, positions, cache, [&](std::span<const std::byte> bytes) { writer.write(bytes); });
  writer.finish();
}

KvFileTokens read_kv_file(const std::filesystem::path& path, std::string_view fingerprint, KvCache& cache) {
  try {
    return Reader(path, fingerprint, cache).read();
  } catch (...) {
    cache.clear();
    throw;
  }
}

}  // namespace millrace
