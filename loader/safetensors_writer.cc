#include "loader/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

std::uint64_t bytes_of(const std::string& path, const TensorHeader& tensor) {
  auto bytes = static_cast<std::uint64_t>(size_of(tensor.dtype));
  for (std::int64_t dimension : tensor.shape) {
    const bool overflow = __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dimension), &bytes);
    require(dimension >= 0 && !overflow, Errc::bad_argument, "{}: tensor {} has an impossible shape", path,
            tensor.name);
  }
  return bytes;
}

// The JSON text, padded to a multiple of 8 bytes so that the data are aligned, and the number of data bytes.
std::pair<std::string, std::uint64_t> header_of(const std::string& path, const SafetensorsMetadata& metadata,
                                                std::span<const TensorHeader> tensors) {
  std::set<std::string_view> names = {"__metadata__"};
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t at = 0;
  for (const TensorHeader& tensor : tensors) {
    require(names.insert(tensor.name).second, Errc::bad_argument, "{}: two tensors are called {}", path, tensor.name);
    std::uint64_t end = 0;
    const bool overflow = __builtin_add_overflow(at, bytes_of(path, tensor), &end);
    require(!overflow, Errc::bad_argument, "{}: the tensors exceed 64 bits", path);
    header[tensor.name] = {{"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  try {
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    return {std::move(text), at};
  } catch (const json::exception&) {
    fail(Errc::bad_argument, "{}: a name or metadata text is not UTF-8", path);
  }
}

std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> counter = 0;
  return fmt::format("{}.{}-{}.tmp", path, getpid(), counter++);
}

// Makes the rename itself durable. Some file systems cannot; the file's contents are safe by then.
void sync_folder(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(fsync(descriptor));
  close(descriptor);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                                     std::span<const TensorHeader> tensors)
    : path_(path.string()), temporary_(temporary_name(path_)) {
  auto [header, data_bytes] = header_of(path_, metadata, tensors);
  const std::uint64_t length = header.size();
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    temporary_.clear();
    fail_io("cannot be created");
  }
  try {
    remaining_ = sizeof length + length;
    write(std::as_bytes(std::span(&length, 1)));
    write(std::as_bytes(std::span(header)));
  } catch (...) {
    discard();
    throw;
  }
  remaining_ = data_bytes;
}

SafetensorsWriter::~SafetensorsWriter() {
  discard();
}

void SafetensorsWriter::discard() noexcept {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) unlink(temporary_.c_str());
  temporary_.clear();
}

void SafetensorsWriter::fail_io(const char* action) const {
  const int error = errno;
  fail(Errc::io, "{}: {}: {}", path_, action, std::generic_category().message(error));
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  require(data.size() <= remaining_, Errc::bad_argument, "{}: {} bytes of data given, {} expected", path_, data.size(),
          remaining_);
  remaining_ -= data.size();
  while (!data.empty()) {
    const ssize_t written = ::write(descriptor_, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("cannot be written");
    data = data.subspan(static_cast<std::size_t>(written));
  }
}

void SafetensorsWriter::finish() {
  require(remaining_ == 0, Errc::bad_argument, "{}: {} bytes of data are missing", path_, remaining_);
  if (fsync(descriptor_) != 0) fail_io("cannot be written");
  if (close(std::exchange(descriptor_, -1)) != 0) fail_io("cannot be written");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("cannot be given its name");
  temporary_.clear();
  sync_folder(path_);
}

void write_safetensors(const std::filesystem::path& path, const SafetensorsMetadata& metadata,
                       std::vector<TensorToWrite> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return std::pair(-size_of(a.dtype), std::string_view(a.name)) <
           std::pair(-size_of(b.dtype), std::string_view(b.name));
  });
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t expected = bytes_of(path.string(), tensor);
    require(tensor.data.size() == expected, Errc::bad_argument, "{}: tensor {} has {} bytes, its shape {}",
            path.string(), tensor.name, tensor.data.size(), expected);
  }
  const std::vector<TensorHeader> headers(tensors.begin(), tensors.end());
  SafetensorsWriter writer(path, metadata, headers);
  for (const TensorToWrite& tensor : tensors) writer.write(tensor.data);
  writer.finish();
}

}  // namespace millrace
