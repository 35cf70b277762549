#include "loader/verify.h"

#include <algorithm>

#include "loader/convert.h"
#include "loader/fp8_blocks.h"
#include "loader/grid_detector.h"
#include "loader/mxfp4_blocks.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view scale_ending = "_scale_inv", exponent_ending = ".weight_scale";

class Verifier {
 public:
  Verifier(const Checkpoint& checkpoint, const Progress& progress) : checkpoint_(checkpoint), progress_(progress) {
    for (const auto& [name, stored] : checkpoint.tensors()) total_ += stored.entry->bytes;
  }

  Verification run() {
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
      stored.file->file().release(stored.entry->offset, stored.entry->bytes);
      done_ += stored.entry->bytes;
      if (progress_) progress_(done_, total_);
    }
    report_low_peaks();
    return {std::move(findings_), std::move(grids_)};
  }

 private:
  void add(Finding::Severity severity, const StoredTensor& stored, std::string message) {
    findings_.push_back({severity, stored.entry->name, std::move(message)});
  }

  void check(std::string_view name, const StoredTensor& stored) {
    if (name.ends_with(scale_ending)) return check_scales(name, stored);
    if (name.ends_with(exponent_ending)) return check_exponents(name, stored);
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
    const std::span<const std::uint8_t> codes = {reinterpret_cast<const std::uint8_t*>(data.data()), data.size()};
    const std::int64_t at = find_nan_code(codes);
    if (at >= 0)
      fail(Errc::bad_file, "{}: tensor {}: NaN code at {}", stored.file->path(), entry.name, place_text(entry, at));
    const StoredTensor scale = checkpoint_.find(std::string(name).append(scale_ending));
    require(static_cast<bool>(scale), Errc::bad_file, "{}: tensor {} is F8_E4M3, but {}{} is missing",
            stored.file->path(), entry.name, entry.name, scale_ending);
    check_grid(stored, scale, codes);
  }

  // A weight [rows, columns], or matrices of that shape one after the other, as merged experts are.
  void check_grid(const StoredTensor& stored, const StoredTensor& scale, std::span<const std::uint8_t> codes) {
    const std::vector<std::int64_t>&shape = stored.entry->shape, &scale_shape = scale.entry->shape;
    const bool stacked = shape.size() == 3;
    require(shape.size() == 2 || stacked, Errc::bad_file,
            "{}: tensor {} is F8_E4M3 of shape {}; two dimensions, or three of merged experts, were expected",
            stored.file->path(), stored.entry->name, shape_text(shape));
    if (codes.empty()) return;
    const std::int64_t matrices = stacked ? shape[0] : 1, columns = shape.back();
    std::vector<std::int64_t> fits;
    if (scale_shape.size() == shape.size() && scale_shape.back() == scale_blocks(columns) &&
        (!stacked || scale_shape[0] == matrices))
      fits = grid_readings(matrices * shape[shape.size() - 2], matrices * scale_shape[shape.size() - 2], matrices);
    require(!fits.empty(), Errc::bad_file,
            "{}: tensor {}: scales of shape {} fit no block grid of a weight of shape {}", stored.file->path(),
            stored.entry->name, shape_text(scale_shape), shape_text(shape));
    judge_grid(stored, scale, fits, matrices, RowPeaks(codes, columns));
  }

  void judge_grid(const StoredTensor& stored, const StoredTensor& scale, const std::vector<std::int64_t>& fits,
                  std::int64_t matrices, const RowPeaks& peaks) {
    const std::vector<float> scales = read_scales(scale);
    if (is_useless(scales)) return;  // which is reported of the scales themselves
    const std::uint8_t peak = peak_of_scales(scales);
    GridReading reading = {.tensor = stored.entry->name, .rows = peaks.rows(), .fits = fits, .passes = {}};
    for (const std::int64_t runs : fits)
      if (peaks.all_blocks_reach(peak, runs)) reading.passes.push_back(runs);
    const auto holds = [&](const std::vector<std::int64_t>& readings) {
      return std::find(readings.begin(), readings.end(), matrices) != readings.end();
    };
    if (stored.entry->name.find("qkv_proj") != std::string::npos || !holds(fits)) {
      if (reading.passes.empty())
        warn(stored,
             "in no reading of its scale grid does every block reach a code of 448, so which scales belong to "
             "which rows is a guess");
      grids_.push_back(std::move(reading));
    } else if (!holds(reading.passes) && !reading.passes.empty()) {
      warn(stored, fmt::format("only a scale grid for each {} rows lets every block reach a code of 448, but one over "
                               "all rows is what its shape says and what is used",
                               peaks.rows() / reading.passes.front()));
    } else if (reading.passes.empty()) {
      ++low_peaks_;
      if (first_low_peak_.empty()) first_low_peak_ = stored.entry->name;
    }
  }

  void report_low_peaks() {
    if (low_peaks_ == 0) return;
    findings_.push_back(
        {Finding::Severity::warning, "",
         fmt::format("{}: {} FP8 weights, the first of them {}, have blocks that do not reach a code of 448: another "
                     "quantizer made them, or their scales are not theirs",
                     checkpoint_.path(), low_peaks_, first_low_peak_)});
  }

  void warn(const StoredTensor& stored, std::string_view what) {
    add(Finding::Severity::warning, stored,
        fmt::format("{}: tensor {}: {}", stored.file->path(), stored.entry->name, what));
  }

  // Empty if the type is none for scales.
  static std::vector<float> read_scales(const StoredTensor& stored) {
    if (!is_scale_dtype(stored.entry->dtype)) return {};
    const std::span<const std::byte> data = stored.file->read(*stored.entry);
    std::vector<float> scales(data.size() / static_cast<std::size_t>(size_of(stored.entry->dtype)));
    convert_scales(stored.entry->dtype, data, scales.data());
    return scales;
  }

  static bool is_useless(const std::vector<float>& scales) {
    return std::all_of(scales.begin(), scales.end(), [](float scale) { return scale == 1.0f; });
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
    if (!scales.empty() && is_useless(scales))
      warn(stored, "every scale is 1, so the weight was cast to FP8 without scaling");
  }

  // Of MXFP4 weights, whose own values are all numbers.
  void check_exponents(std::string_view name, const StoredTensor& stored) {
    const TensorEntry& entry = *stored.entry;
    name.remove_suffix(std::string_view("_scale").size());
    const StoredTensor weight = checkpoint_.find(name);
    require(weight && weight.entry->dtype == Dtype::u8, Errc::bad_file,
            "{}: tensor {} holds exponents of MXFP4, but {} is {}", stored.file->path(), entry.name,
            checkpoint_.spelled(name), weight ? name_of(weight.entry->dtype) : "missing");
    require(entry.dtype == Dtype::u8 || entry.dtype == Dtype::f8_e8m0, Errc::unsupported,
            "{}: tensor {} is {}, which exponents of MXFP4 cannot be", stored.file->path(), entry.name,
            name_of(entry.dtype));
    const std::vector<std::int64_t>& shape = weight.entry->shape;
    require(shape.size() == 2 && entry.shape.size() == 2 && entry.shape[0] == shape[0] &&
                shape[1] % (mxfp4_block / 2) == 0 && entry.shape[1] == shape[1] / (mxfp4_block / 2),
            Errc::bad_file, "{}: tensor {}: exponents of shape {} do not fit packed weights of shape {}",
            stored.file->path(), entry.name, shape_text(entry.shape), shape_text(shape));
    const std::span<const std::byte> data = stored.file->read(entry);
    const std::int64_t at = find_bad_exponent({reinterpret_cast<const std::uint8_t*>(data.data()), data.size()});
    if (at >= 0)
      fail(Errc::bad_file, "{}: tensor {}: {} at {}; 252 is the largest exponent that keeps MXFP4 finite",
           stored.file->path(), entry.name, std::to_integer<int>(data[static_cast<std::size_t>(at)]),
           place_text(entry, at));
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
  std::vector<GridReading> grids_;
  std::size_t low_peaks_ = 0;
  std::string first_low_peak_;
};

}  // namespace

Verification verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress) {
  return Verifier(checkpoint, progress).run();
}

}  // namespace millrace
