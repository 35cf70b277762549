#include "loader/checksums.h"

#include <algorithm>
#include <system_error>

#include "loader/sha256.h"
#include "runtime/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t piece_bytes = 4 << 20;

// Hashes ranges of files and reports how far it is.
class Hasher {
 public:
  Hasher(std::uint64_t total, const Progress& progress) : total_(total), progress_(progress), piece_(piece_bytes) {}

  std::string hash(const MappedFile& file, std::uint64_t offset, std::uint64_t bytes) {
    Sha256 sha;
    for (std::uint64_t at = offset; at < offset + bytes;) {
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(piece_bytes, offset + bytes - at));
      const std::span<std::byte> piece = std::span(piece_).first(count);
      file.read(static_cast<std::size_t>(at), piece);
      sha.add({reinterpret_cast<const char*>(piece.data()), piece.size()});
      at += count;
      done_ += count;
      if (progress_) progress_(done_, total_);
    }
    return sha.hex();
  }

 private:
  std::uint64_t done_ = 0, total_;
  const Progress& progress_;
  std::vector<std::byte> piece_;
};

// Those a model consists of beside its weights.
std::vector<fs::path> small_files(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code failure;
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end; entry.increment(failure)) {
    const fs::path extension = entry->path().extension();
    std::error_code unknown;
    if ((extension == ".json" || extension == ".jinja" || extension == ".txt") && entry->is_regular_file(unknown))
      paths.push_back(entry->path());
  }
  require(!failure, Errc::io, "{}: the folder cannot be read: {}", folder.string(), failure.message());
  return paths;
}

}  // namespace

std::vector<FileChecksum> file_checksums(const Checkpoint& checkpoint, const Progress& progress) {
  std::vector<MappedFile> small;
  if (checkpoint.has_config())
    for (const fs::path& path : small_files(checkpoint.path())) small.emplace_back(path);
  std::vector<const MappedFile*> files;
  for (const MappedFile& file : small) files.push_back(&file);
  for (const auto& file : checkpoint.files()) files.push_back(&file->file());
  std::sort(files.begin(), files.end(), [](const auto* a, const auto* b) { return a->path() < b->path(); });
  std::uint64_t total = 0;
  for (const MappedFile* file : files) total += file->bytes();
  Hasher hasher(total, progress);
  std::vector<FileChecksum> checksums;
  for (const MappedFile* file : files)
    checksums.push_back({.name = fs::path(file->path()).filename().string(),
                         .bytes = file->bytes(),
                         .sha256 = hasher.hash(*file, 0, file->bytes())});
  return checksums;
}

std::vector<TensorChecksum> tensor_checksums(const Checkpoint& checkpoint, const Progress& progress) {
  std::vector<StoredTensor> tensors;
  std::uint64_t total = 0;
  for (const auto& [name, stored] : checkpoint.tensors()) {
    tensors.push_back(stored);
    total += stored.entry->bytes;
  }
  // Read front to back through one file after the other.
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(std::string_view(a.file->path()), a.entry->offset) <
           std::pair(std::string_view(b.file->path()), b.entry->offset);
  });
  Hasher hasher(total, progress);
  std::vector<TensorChecksum> checksums;
  for (const StoredTensor& stored : tensors)
    checksums.push_back(
        {stored.entry->name, hasher.hash(stored.file->file(), stored.entry->offset, stored.entry->bytes)});
  std::sort(checksums.begin(), checksums.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return checksums;
}

}  // namespace millrace
