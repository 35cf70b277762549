// Block-quantized weights: which scale belongs to which row, scales as fp32, and dequantization to bf16.
// Source: the published FP8 checkpoints; the grid of MiMo-V2-Flash's k_proj restarts with every kv head.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/bfloat16.h"
#include "runtime/tensor.h"

namespace millrace {

// Blocks along `count` rows or columns.
constexpr std::int64_t scale_blocks(std::int64_t count) noexcept {
  return (count + BlockScales::block - 1) / BlockScales::block;
}

// How the rows of a weight are cut before blocks of 128 x 128 are laid over each piece.
struct ScaleGrid {
  std::int64_t segments = 1;  // equal runs of rows, each with a grid of its own
  std::int64_t rows = 0;      // of the scales, over all segments
  std::int64_t columns = 0;   // ceil(weight columns / 128)
  // Where the scales of the first segment begin in the scale tensor, and from one segment to the next, in rows: the
  // weight may be cut out of a larger one.
  std::int64_t first_row = 0, stride = 0;
  std::int64_t skipped_rows = 0;  // weight rows of a segment's first block that are not this weight's

  std::int64_t rows_per_segment() const noexcept { return rows / segments; }
};

// Equal runs of consecutive rows of a matrix.
struct RowRuns {
  std::int64_t first = 0;   // where the first begins
  std::int64_t runs = 1;    // how many
  std::int64_t rows = 0;    // of one run
  std::int64_t stride = 0;  // rows from the start of one to that of the next

  std::int64_t total() const noexcept { return runs * rows; }
};

// The grid of a weight made of `part` of the rows of another, whose grid is `whole` with segments of `segment_rows`:
// each run lies in one segment, at the same place where there are several.
ScaleGrid cut_grid(const ScaleGrid& whole, std::int64_t segment_rows, const RowRuns& part) noexcept;

// The grid of exactly that many segments. Throws Error(bad_file) naming the weight and both shapes.
ScaleGrid segmented_grid(std::string_view weight, std::int64_t rows, std::int64_t columns,
                         std::span<const std::int64_t> scale_shape, std::int64_t segments);

// The grid of a weight (rows, columns) whose scales have `scale_shape`: one grid over all rows if that fits, else
// segments_hint (kv heads of the layer), 8, 4, 2 or 16 segments, the first that fits.
// Throws Error(bad_file) naming the weight and both shapes.
ScaleGrid resolve_scale_grid(std::string_view weight, std::int64_t rows, std::int64_t columns,
                             std::span<const std::int64_t> scale_shape, std::int64_t segments_hint);

// Whether scales may have this element type: F32, BF16, F16, F8_E8M0, or U8 (which holds E8M0).
bool is_scale_dtype(Dtype dtype) noexcept;

// Converts scales of one of these types to fp32; `data` may be unaligned. Returns the index of the first NaN or
// infinity, or -1.
std::int64_t convert_scales(Dtype dtype, std::span<const std::byte> data, float* scales) noexcept;

// The index of the first NaN code, or -1.
std::int64_t find_nan_code(std::span<const std::uint8_t> codes) noexcept;

// Rows [begin, end) of a weight (rows, columns): out = bf16(e4m3(code) * scale), the product rounded to fp32 first and
// denormal products flushed, as kernels that decode on the fly do. codes and out are the whole weight's.
void dequantize_rows(const std::uint8_t* codes, std::int64_t columns, const BlockScales& scales, std::int64_t begin,
                     std::int64_t end, Bfloat16* out) noexcept;

}  // namespace millrace
