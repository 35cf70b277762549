#include "loader/verify.h"

#include <algorithm>

#include "loader/convert.h"
#include "loader/fp8_blocks.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view scale_ending = "_scale_inv";

class Verifier {
 public:
  Verifier(const Checkpoint& checkpoint, const Progress& progress) : checkpoint_(checkpoint), progress_(progress) {
    for (const auto& [name, stored] : checkpoint.tensors()) total_ += stored.entry->bytes;
  }

  std::vector<Finding> run() {
    std::vector<std::pair<std::string_view, StoredTensor>> tensors(checkpoint_.tensors().begin(),
                                                                   checkpoint_.tensors().end());
    // Front to back through one file after the other is how disks read fastest.
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return std::pair(std::string_view(a.second.file->path()), a.second.entry->offset) <
             std::pair(std::string_view(b.second.file->path()), b.second.entry->offset);
    });
    for (const auto& [name, stored] : tensors) {
      try {
        check(name, stored);
      } catch (const Error& error) {
        add(Finding::Severity::error, stored, error.what());
      }
      done_ += stored.entry->bytes;
      if (progress_) progress_(done_, total_);
    }
    return std::move(findings_);
  }

 private:
  void add(Finding::Severity severity, const StoredTensor& stored, std::string message) {
    findings_.push_back({severity, stored.entry->name, std::move(message)});
  }

  void check(std::string_view name, const StoredTensor& stored) {
    if (name.ends_with(scale_ending)) return check_scales(name, stored);
    if (stored.entry->dtype == Dtype::f8_e4m3) return check_codes(name, stored);
    const std::span<const std::byte> data = stored.file->read(*stored.entry);
    if (!is_float_dtype(stored.entry->dtype)) return;
    const std::int64_t count = static_cast<std::int64_t>(data.size()) / size_of(stored.entry->dtype);
    const std::int64_t at = find_non_finite(stored.entry->dtype, data.data(), count);
    if (at < 0) return;
    float value = 0;
    convert_to_f32(stored.entry->dtype, data.data() + at * size_of(stored.entry->dtype), 1, &value);
    fail(Errc::bad_file, "{}: tensor {}: {} at {}", stored.file->path(), stored.entry->name, value,
         place_text(*stored.entry, at));
  }

  void check_codes(std::string_view name, const StoredTensor& stored) {
    const TensorEntry& entry = *stored.entry;
    const std::span<const std::byte> data = stored.file->read(entry);
    const std::int64_t at = find_nan_code({reinterpret_cast<const std::uint8_t*>(data.data()), data.size()});
    if (at >= 0)
      fail(Errc::bad_file, "{}: tensor {}: NaN code at {}", stored.file->path(), entry.name, place_text(entry, at));
    const StoredTensor scale = checkpoint_.find(std::string(name).append(scale_ending));
    require(static_cast<bool>(scale), Errc::bad_file, "{}: tensor {} is F8_E4M3, but {}{} is missing",
            stored.file->path(), entry.name, entry.name, scale_ending);
    require(entry.shape.size() == 2, Errc::bad_file, "{}: tensor {} is F8_E4M3 of shape {}; two dimensions expected",
            stored.file->path(), entry.name, shape_text(entry.shape));
    resolve_scale_grid(fmt::format("{}: tensor {}", stored.file->path(), entry.name), entry.shape[0], entry.shape[1],
                       scale.entry->shape, 1);
  }

  void check_scales(std::string_view name, const StoredTensor& stored) {
    const TensorEntry& entry = *stored.entry;
    name.remove_suffix(scale_ending.size());
    const StoredTensor weight = checkpoint_.find(name);
    require(weight && weight.entry->dtype == Dtype::f8_e4m3, Errc::bad_file, "{}: tensor {} holds scales, but {} is {}",
            stored.file->path(), entry.name, checkpoint_.spelled(name),
            weight ? name_of(weight.entry->dtype) : "missing");
    require(is_scale_dtype(entry.dtype), Errc::unsupported, "{}: tensor {} is {}, which scales cannot be",
            stored.file->path(), entry.name, name_of(entry.dtype));
    const std::span<const std::byte> data = stored.file->read(entry);
    std::vector<float> scales(data.size() / static_cast<std::size_t>(size_of(entry.dtype)));
    const std::int64_t at = convert_scales(entry.dtype, data, scales.data());
    if (at >= 0)
      fail(Errc::bad_file, "{}: tensor {}: {} at {}", stored.file->path(), entry.name,
           scales[static_cast<std::size_t>(at)], place_text(entry, at));
    if (!scales.empty() && std::all_of(scales.begin(), scales.end(), [](float scale) { return scale == 1.0f; }))
      add(Finding::Severity::warning, stored,
          fmt::format("{}: tensor {}: every scale is 1, so the weight was cast to FP8 without scaling",
                      stored.file->path(), entry.name));
  }

  // "row 3, column 5" of element `at`, the innermost dimension being the column.
  static std::string place_text(const TensorEntry& entry, std::int64_t at) {
    if (entry.shape.size() < 2) return fmt::format("element {}", at);
    return fmt::format("row {}, column {}", at / entry.shape.back(), at % entry.shape.back());
  }

  const Checkpoint& checkpoint_;
  const Progress& progress_;
  std::uint64_t done_ = 0, total_ = 0;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress) {
  return Verifier(checkpoint, progress).run();
}

}  // namespace millrace
