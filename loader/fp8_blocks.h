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

// How the rows of a weight are cut before blocks of 128 x 128 are laid over each piece.
struct ScaleGrid {
  std::int64_t segments = 1;  // equal runs of rows, each with a grid of its own
  std::int64_t rows = 0;      // of the scale tensor, over all segments
  std::int64_t columns = 0;   // ceil(weight columns / 128)
};

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

// BlockScales::small_codes of rows [begin, end) of a weight (rows, columns); codes and small_codes are the whole
// weight's.
void mark_small_codes(const std::uint8_t* codes, std::int64_t columns, std::int64_t begin, std::int64_t end,
                      std::uint8_t* small_codes) noexcept;

// Rows [begin, end) of a weight (rows, columns): out = bf16(e4m3(code) * scale), the product rounded to fp32 first and
// denormal products flushed, as kernels that decode on the fly do. codes and out are the whole weight's.
void dequantize_rows(const std::uint8_t* codes, std::int64_t columns, const BlockScales& scales, std::int64_t begin,
                     std::int64_t end, Bfloat16* out) noexcept;

}  // namespace millrace
