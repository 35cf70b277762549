#include "loader/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "loader/json.h"
#include "loader/plain_json.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::uint64_t length_bytes = 8;

std::string_view header_text(const MappedFile& file) {
  const std::string& path = file.path();
  require(file.bytes() >= length_bytes, Errc::bad_file,
          "{}: {} bytes hold no safetensors header; at least {} were expected", path, file.bytes(), length_bytes);
  file.populate(0, length_bytes);
  static_assert(std::endian::native == std::endian::little);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  require(length <= SafetensorsFile::max_header_bytes, Errc::bad_file,
          "{}: the header claims {} bytes, at most {} are accepted", path, length, SafetensorsFile::max_header_bytes);
  require(length <= file.bytes() - length_bytes, Errc::bad_file,
          "{}: the header claims {} bytes, but only {} follow: the file is truncated or no safetensors file", path,
          length, file.bytes() - length_bytes);
  file.populate(length_bytes, static_cast<std::size_t>(length));
  return {reinterpret_cast<const char*>(file.data()) + length_bytes, static_cast<std::size_t>(length)};
}

// A header as it stands in the file.
struct PlainEntry {
  std::string_view name, dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};
struct PlainHeader {
  std::vector<PlainEntry> entries;
  std::map<std::string, std::string, std::less<>> metadata;
};

bool read_plain_entry(PlainJson& json, PlainEntry& entry) {
  bool dtype = false, shape = false, offsets = false;
  const auto once = [](bool& seen) { return !std::exchange(seen, true); };
  const bool good = json.object([&](std::string_view key) {
    std::uint64_t number = 0;
    if (key == "dtype") return once(dtype) && json.string(entry.dtype);
    if (key == "shape")
      return once(shape) && json.array([&] {
        if (!json.number(number)) return false;
        entry.shape.push_back(static_cast<std::int64_t>(number));
        return true;
      });
    return key == "data_offsets" && once(offsets) && json.take('[') && json.number(entry.begin) && json.take(',') &&
           json.number(entry.end) && json.take(']');
  });
  return good && dtype && shape && offsets;
}

// The header, if it is written in the plain way of every known writer and no key appears twice.
std::optional<PlainHeader> plain_header(std::string_view text) {
  PlainHeader header;
  PlainJson json(text);
  bool metadata = false;
  const bool good = json.object([&](std::string_view name) {
    if (name != "__metadata__") {
      header.entries.push_back({.name = name, .dtype = {}, .shape = {}});
      return read_plain_entry(json, header.entries.back());
    }
    return !std::exchange(metadata, true) && json.object([&](std::string_view key) {
      std::string_view value;
      return json.string(value) && header.metadata.emplace(key, value).second;
    });
  });
  if (!good || !json.end()) return std::nullopt;
  std::vector<std::string_view> names;
  for (const PlainEntry& entry : header.entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  if (std::adjacent_find(names.begin(), names.end()) != names.end()) return std::nullopt;
  return header;
}

// Reads one tensor of the header; offsets become relative to the file.
class EntryReader {
 public:
  EntryReader(const std::string& path, std::uint64_t data_begin, std::uint64_t data_bytes)
      : path_(path), data_begin_(data_begin), data_bytes_(data_bytes) {}

  TensorEntry read(const std::string& name, const nlohmann::json& value) const {
    TensorEntry entry;
    entry.name = name;
    check(value.is_object(), name, "an object was expected");
    for (const char* key : {"dtype", "shape", "data_offsets"})
      require(value.contains(key), Errc::bad_file, "{}: tensor \"{}\" has no {}", path_, name, key);
    check(value["dtype"].is_string(), name, "dtype is not a string");
    entry.dtype = dtype_of(name, value["dtype"].get_ref<const std::string&>());
    entry.shape = shape_of(name, value["shape"]);
    const nlohmann::json& offsets = value["data_offsets"];
    const bool good =
        offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned();
    check(good, entry.name, "data_offsets are not two whole numbers from 0");
    place(offsets[0].get<std::uint64_t>(), offsets[1].get<std::uint64_t>(), entry);
    check_bytes(entry);
    return entry;
  }

  TensorEntry read(PlainEntry plain) const {
    TensorEntry entry;
    entry.name = plain.name;
    entry.dtype = dtype_of(entry.name, plain.dtype);
    entry.shape = std::move(plain.shape);
    place(plain.begin, plain.end, entry);
    check_bytes(entry);
    return entry;
  }

 private:
  void check(bool good, const std::string& name, const char* message) const {
    require(good, Errc::bad_file, "{}: tensor \"{}\": {}", path_, name, message);
  }

  Dtype dtype_of(const std::string& name, std::string_view text) const {
    const std::optional<Dtype> dtype = dtype_named(text);
    require(dtype.has_value(), Errc::bad_file, "{}: tensor \"{}\" has the unknown dtype {}", path_, name,
            text.substr(0, 40));
    return *dtype;
  }

  std::vector<std::int64_t> shape_of(const std::string& name, const nlohmann::json& value) const {
    check(value.is_array(), name, "shape is not an array");
    std::vector<std::int64_t> shape;
    for (const nlohmann::json& dimension : value) {
      const bool good = dimension.is_number_unsigned() && dimension.get<std::uint64_t>() <= INT64_MAX;
      check(good, name, "shape holds something other than a whole number from 0");
      shape.push_back(dimension.get<std::int64_t>());
    }
    return shape;
  }

  void place(std::uint64_t begin, std::uint64_t end, TensorEntry& entry) const {
    require(begin <= end, Errc::bad_file, "{}: tensor \"{}\": data_offsets run backwards, from {} to {}", path_,
            entry.name, begin, end);
    require(end <= data_bytes_, Errc::bad_file,
            "{}: tensor \"{}\" ends at byte {} of the data, which have only {} bytes: the file is truncated or damaged",
            path_, entry.name, end, data_bytes_);
    entry.offset = data_begin_ + begin;
    entry.bytes = end - begin;
  }

  void check_bytes(const TensorEntry& entry) const {
    auto bytes = static_cast<std::uint64_t>(size_of(entry.dtype));
    bool overflow = false;
    for (std::int64_t dimension : entry.shape)
      overflow |= __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dimension), &bytes);
    if (!overflow && bytes == entry.bytes) return;  // before the shape is written out for a message
    const std::string shape = shape_text(entry.shape);
    require(!overflow, Errc::bad_file, "{}: tensor \"{}\": the shape {} overflows 64 bits", path_, entry.name, shape);
    fail(Errc::bad_file, "{}: tensor \"{}\": {} {} needs {} bytes, its offsets span {}", path_, entry.name,
         name_of(entry.dtype), shape, bytes, entry.bytes);
  }

  const std::string& path_;
  std::uint64_t data_begin_, data_bytes_;
};

// Every byte of the data belongs to exactly one tensor. `entries` are in the order of their data.
void check_layout(const std::string& path, std::span<const TensorEntry> entries, std::uint64_t data_begin,
                  std::uint64_t file_bytes) {
  std::uint64_t at = data_begin;
  const TensorEntry* previous = nullptr;
  for (const TensorEntry& entry : entries) {
    require(entry.offset >= at, Errc::bad_file, "{}: tensors \"{}\" and \"{}\" overlap at byte {} of the data", path,
            previous ? previous->name : "", entry.name, entry.offset - data_begin);
    require(entry.offset == at, Errc::bad_file, "{}: bytes {} to {} of the data belong to no tensor", path,
            at - data_begin, entry.offset - data_begin);
    at = entry.offset + entry.bytes;
    previous = &entry;
  }
  require(at == file_bytes, Errc::bad_file, "{}: bytes {} to {} of the data belong to no tensor", path, at - data_begin,
          file_bytes - data_begin);
}

void read_metadata(const std::string& path, const nlohmann::json& value,
                   std::map<std::string, std::string, std::less<>>& metadata) {
  require(value.is_object(), Errc::bad_file, "{}: __metadata__ is not an object", path);
  for (const auto& [key, word] : value.items()) {
    require(word.is_string(), Errc::bad_file, "{}: __metadata__ holds something other than strings", path);
    metadata.emplace(key, word.get<std::string>());
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string_view text = header_text(file_);
  const std::uint64_t data_begin = length_bytes + text.size();
  const EntryReader reader(this->path(), data_begin, file_.bytes() - data_begin);
  if (std::optional<PlainHeader> plain = plain_header(text)) {
    entries_.reserve(plain->entries.size());
    for (PlainEntry& entry : plain->entries) entries_.push_back(reader.read(std::move(entry)));
    metadata_ = std::move(plain->metadata);
  } else {
    const nlohmann::json header = parse_json(text, fmt::format("{}: header", this->path()), {.unique_keys = true});
    require(header.is_object(), Errc::bad_file, "{}: the header is not a JSON object", this->path());
    for (const auto& [name, value] : header.items())
      if (name != "__metadata__") entries_.push_back(reader.read(name, value));
    if (header.contains("__metadata__")) read_metadata(this->path(), header["__metadata__"], metadata_);
  }
  // A tensor without elements lies before the one that begins at the same byte.
  std::sort(entries_.begin(), entries_.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  check_layout(this->path(), entries_, data_begin, file_.bytes());
  for (const TensorEntry& entry : entries_) by_name_.push_back(&entry);
  std::sort(by_name_.begin(), by_name_.end(),
            [](const TensorEntry* a, const TensorEntry* b) { return a->name < b->name; });
  file_.release(0, static_cast<std::size_t>(data_begin));
}

std::unique_ptr<const SafetensorsFile> SafetensorsFile::absent(const std::filesystem::path& path) {
  return std::unique_ptr<const SafetensorsFile>(new SafetensorsFile(MappedFile::absent(path)));
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const noexcept {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [](const TensorEntry* entry, std::string_view wanted) { return entry->name < wanted; });
  return found == by_name_.end() || (*found)->name != name ? nullptr : *found;
}

std::span<const std::byte> SafetensorsFile::read(const TensorEntry& entry) const {
  try {
    file_.populate(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.bytes));
  } catch (const Error& error) {
    fail(error.code(), "{} (tensor {})", error.what(), entry.name);
  }
  return data(entry);
}

void SafetensorsFile::read_into(const TensorEntry& entry, std::span<std::byte> target) const {
  try {
    file_.read(static_cast<std::size_t>(entry.offset), target);
  } catch (const Error& error) {
    fail(error.code(), "{} (tensor {})", error.what(), entry.name);
  }
}

}  // namespace millrace
