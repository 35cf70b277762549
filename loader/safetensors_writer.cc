#include "loader/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

}  // namespace

// What comes before the data.
struct SafetensorsHeader {
  std::string text;  // JSON, padded to a multiple of 8 bytes so that the data are aligned
  std::uint64_t data_bytes = 0;
};

std::uint64_t data_bytes(const TensorHeader& tensor, std::string_view where) {
  auto bytes = static_cast<std::uint64_t>(size_of(tensor.dtype));
  for (const std::int64_t dimension : tensor.shape) {
    const bool overflow = __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dimension), &bytes);
    require(dimension >= 0 && !overflow, Errc::bad_argument, "{}: tensor {} has an impossible shape", where,
            tensor.name);
  }
  return bytes;
}

bool precedes_in_file(const TensorHeader& a, const TensorHeader& b) noexcept {
  return std::pair(-size_of(a.dtype), std::string_view(a.name)) <
         std::pair(-size_of(b.dtype), std::string_view(b.name));
}

namespace {

SafetensorsHeader header_of(const std::string& path, const SafetensorsMetadata& metadata,
                            std::span<const TensorHeader> tensors) {
  std::set<std::string_view> names = {"__metadata__"};
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const TensorHeader& tensor : tensors) {
    require(names.insert(tensor.name).second, Errc::bad_argument, "{}: two tensors are called {}", path, tensor.name);
    std::uint64_t end = 0;
    const bool overflow = __builtin_add_overflow(at, data_bytes(tensor, path), &end);
    require(!overflow, Errc::bad_argument, "{}: the tensors exceed 64 bits", path);
    header[tensor.name] = {{"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  try {
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    return {.text = std::move(text), .data_bytes = at};
  } catch (const json::exception&) {
    fail(Errc::bad_argument, "{}: a name or metadata text is not UTF-8", path);
  }
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                                     std::span<const TensorHeader> tensors)
    : SafetensorsWriter(path, header_of(path.string(), metadata, tensors)) {}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const SafetensorsHeader& header)
    : file_(path), remaining_(header.data_bytes) {
  const std::uint64_t length = header.text.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(std::as_bytes(std::span(header.text)));
}

void SafetensorsWriter::take(std::uint64_t bytes) {
  require(bytes <= remaining_, Errc::bad_argument, "{}: {} bytes of data given, {} expected", file_.path(), bytes,
          remaining_);
  remaining_ -= bytes;
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  take(data.size());
  file_.write(data);
}

void SafetensorsWriter::write_hole(std::uint64_t bytes) {
  take(bytes);
  file_.write_hole(bytes);
}

void SafetensorsWriter::finish() {
  require(remaining_ == 0, Errc::bad_argument, "{}: {} bytes of data are missing", file_.path(), remaining_);
  file_.finish();
}

SafetensorsAssembler::SafetensorsAssembler(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                                           std::vector<TensorHeader> tensors)
    : file_(path) {
  std::sort(tensors.begin(), tensors.end(), precedes_in_file);
  const SafetensorsHeader header = header_of(path.string(), metadata, tensors);
  const std::uint64_t length = header.text.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(std::as_bytes(std::span(header.text)));
  file_.write_hole(header.data_bytes);
  std::uint64_t at = sizeof(length) + length;
  for (TensorHeader& tensor : tensors) {
    const std::uint64_t bytes = data_bytes(tensor, path.string());
    places_.emplace(std::move(tensor.name), Place{.begin = at, .written = 0, .bytes = bytes});
    at += bytes;
  }
}

SafetensorsAssembler::Place& SafetensorsAssembler::place_of(std::string_view tensor) {
  const auto found = places_.find(tensor);
  require(found != places_.end(), Errc::bad_argument, "{}: no tensor {} was declared", file_.path(), tensor);
  return found->second;
}

void SafetensorsAssembler::append(std::string_view tensor, std::span<const std::byte> data) {
  Place& place = place_of(tensor);
  require(data.size() <= place.bytes - place.written, Errc::bad_argument, "{}: tensor {} has {} bytes, its shape {}",
          file_.path(), tensor, place.written + data.size(), place.bytes);
  file_.write_at(place.begin + place.written, data);
  place.written += data.size();
}

void SafetensorsAssembler::read_back(std::string_view tensor, std::uint64_t begin, std::span<std::byte> target) {
  const Place& place = place_of(tensor);
  require(begin <= place.written && target.size() <= place.written - begin, Errc::bad_argument,
          "{}: bytes {} to {} of tensor {}, which has {}", file_.path(), begin, begin + target.size(), tensor,
          place.written);
  file_.read_at(place.begin + begin, target);
}

void SafetensorsAssembler::finish() {
  for (const auto& [name, place] : places_)
    require(place.written == place.bytes, Errc::bad_argument, "{}: tensor {} has {} bytes, its shape {}", file_.path(),
            name, place.written, place.bytes);
  file_.finish();
}

void write_safetensors(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                       std::vector<TensorToWrite> tensors) {
  std::sort(tensors.begin(), tensors.end(), precedes_in_file);
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t expected = data_bytes(tensor, path.string());
    require(tensor.data.size() == expected, Errc::bad_argument, "{}: tensor {} has {} bytes, its shape {}",
            path.string(), tensor.name, tensor.data.size(), expected);
  }
  const std::vector<TensorHeader> headers(tensors.begin(), tensors.end());
  SafetensorsWriter writer(path, metadata, headers);
  for (const TensorToWrite& tensor : tensors) writer.write(tensor.data);
  writer.finish();
}

}  // namespace millrace
