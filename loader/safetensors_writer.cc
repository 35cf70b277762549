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

SafetensorsWriter::Header SafetensorsWriter::header_of(const std::string& path, const SafetensorsMetadata& metadata,
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

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                                     std::span<const TensorHeader> tensors)
    : SafetensorsWriter(path, header_of(path.string(), metadata, tensors)) {}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const Header& header)
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
