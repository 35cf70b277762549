#include "loader/expert_shards.h"

#include <algorithm>

#include "runtime/error.h"

namespace millrace {
namespace {

bool same_layout(const SafetensorsFile& a, const SafetensorsFile& b) {
  return a.file().bytes() == b.file().bytes() &&
         std::equal(a.entries().begin(), a.entries().end(), b.entries().begin(), b.entries().end(),
                    [](const TensorEntry& left, const TensorEntry& right) {
                      return left.name == right.name && left.dtype == right.dtype && left.shape == right.shape &&
                             left.offset == right.offset;
                    });
}

}  // namespace

bool ExpertShards::Copy::is_as_opened() const noexcept {
  try {
    return file.identity() == opened;
  } catch (const Error&) {
    return false;
  }
}

ExpertShards::Copy& ExpertShards::copy_of(const DiskFile& file) noexcept {
  return *std::find_if(copies_.begin(), copies_.end(), [&](const Copy& copy) { return &copy.file == &file; });
}

ExpertShards::ExpertShards(std::span<const SafetensorsFile* const> files,
                           std::span<const std::filesystem::path> copies) {
  for (const SafetensorsFile* file : files) {
    Copy& copy = copies_.emplace_back(*file, file->path());
    copy.opened = copy.file.identity();
    require(copy.opened == file->file().identity(), Errc::io, "{}: the file changed while the model was opened",
            file->path());
    of_file_[file].push_back(&copy);
  }
  for (const std::filesystem::path& folder : copies) {
    bool found = false;
    for (const SafetensorsFile* file : files) {
      const std::filesystem::path path = folder / std::filesystem::path(file->path()).filename();
      std::error_code failure;
      if (!std::filesystem::exists(path, failure)) continue;
      require(same_layout(SafetensorsFile(path), *file), Errc::bad_file, "{}: not a copy of {}", path.string(),
              file->path());
      Copy& copy = copies_.emplace_back(*file, path);
      copy.opened = copy.file.identity();
      of_file_[file].push_back(&copy);
      found = true;
    }
    require(found, Errc::not_found, "{}: the folder holds none of the model's files with experts", folder.string());
  }
}

ExpertShards::Copy* ExpertShards::choose(const SafetensorsFile* file, bool sound) noexcept {
  const std::vector<Copy*>& copies = of_file_.find(file)->second;
  const auto rank = [](const Copy* copy) { return std::pair(copy->suspect, copy->bytes_under_way); };
  Copy* best =
      *std::min_element(copies.begin(), copies.end(), [&](const Copy* a, const Copy* b) { return rank(a) < rank(b); });
  return sound && best->suspect ? nullptr : best;
}

void ExpertShards::check_again(const SameData& same_data) {
  any_suspect_ = false;
  for (Copy& copy : copies_) {
    if (!copy.suspect) continue;
    try {
      const SafetensorsFile now(copy.file.path());
      const bool same =
          now.file().identity() == copy.opened || (same_layout(now, *copy.header) && same_data(copy.header, now));
      require(same, Errc::io, "not what it was");
      copy.file.reopen();
      copy.opened = now.file().identity();
      copy.suspect = false;
    } catch (const Error&) {
      any_suspect_ = true;  // reading from it tells what is wrong
    }
  }
}

}  // namespace millrace
