#include "loader/grid_detector.h"

#include <algorithm>
#include <cmath>

#include "loader/fp8_blocks.h"

namespace millrace {
namespace {

constexpr std::int64_t most_runs = 16;
constexpr std::uint8_t code_of_448 = 0x7e, code_above_224 = 0x77;

bool is_power_of_two(float scale) {
  int exponent = 0;
  return std::frexp(scale, &exponent) == 0.5f;
}

}  // namespace

std::vector<std::int64_t> grid_readings(std::int64_t rows, std::int64_t scale_rows, std::int64_t least) {
  std::vector<std::int64_t> readings;
  for (std::int64_t runs = least; runs <= most_runs * least && runs <= rows; runs += least)
    if (rows % runs == 0 && runs * scale_blocks(rows / runs) == scale_rows) readings.push_back(runs);
  return readings;
}

RowPeaks::RowPeaks(std::span<const std::uint8_t> codes, std::int64_t columns)
    : rows_(columns > 0 ? static_cast<std::int64_t>(codes.size()) / columns : 0), blocks_(scale_blocks(columns)) {
  peaks_.reserve(static_cast<std::size_t>(rows_ * blocks_));
  for (std::int64_t row = 0; row < rows_; ++row)
    for (std::int64_t begin = 0; begin < columns; begin += BlockScales::block) {
      const auto count = static_cast<std::size_t>(std::min(BlockScales::block, columns - begin));
      std::uint8_t peak = 0;
      for (const std::uint8_t code : codes.subspan(static_cast<std::size_t>(row * columns + begin), count))
        peak = std::max(peak, static_cast<std::uint8_t>(code & 0x7fu));
      peaks_.push_back(peak);
    }
}

bool RowPeaks::all_blocks_reach(std::uint8_t least_peak, std::int64_t runs) const {
  const std::int64_t run_rows = rows_ / runs;
  for (std::int64_t first = 0; first < rows_;) {
    const std::int64_t in_run = first % run_rows;
    const std::int64_t count = std::min(BlockScales::block, run_rows - in_run);
    for (std::int64_t block = 0; block < blocks_; ++block) {
      std::uint8_t peak = 0;
      for (std::int64_t row = first; row < first + count; ++row)
        peak = std::max(peak, peaks_[static_cast<std::size_t>(row * blocks_ + block)]);
      if (peak != 0 && peak < least_peak) return false;
    }
    first += count;
  }
  return true;
}

std::uint8_t peak_of_scales(std::span<const float> scales) {
  return std::all_of(scales.begin(), scales.end(), is_power_of_two) ? code_above_224 : code_of_448;
}

}  // namespace millrace
