// Which reading of its scale grid an FP8 weight was made with. A quantizer scales each block so that its largest code
// is
// +-448 (with scales that are powers of two, more than 224); under a wrong reading many blocks miss that.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

// Readings of the scales of a weight (rows, columns), in ascending order: the numbers of equal runs of rows, each run
// with a grid of its own, that give `scale_rows` rows of scales. Only multiples of `least`, up to 16 times as many.
std::vector<std::int64_t> grid_readings(std::int64_t rows, std::int64_t scale_rows, std::int64_t least = 1);

// The largest |code| of each row in each block of 128 columns.
class RowPeaks {
 public:
  // codes: (rows, columns), none of them NaN.
  RowPeaks(std::span<const std::uint8_t> codes, std::int64_t columns);

  std::int64_t rows() const noexcept { return rows_; }

  // Whether with this reading every block that is not all zeros has a code of magnitude `least_peak` (a code) or more.
  bool all_blocks_reach(std::uint8_t least_peak, std::int64_t runs) const;

 private:
  std::int64_t rows_, blocks_;
  std::vector<std::uint8_t> peaks_;  // (rows, blocks)
};

// What a block has to reach: 448, or more than 224 where all scales are powers of two. As a code.
std::uint8_t peak_of_scales(std::span<const float> scales);

}  // namespace millrace
