#include "loader/fp8_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "runtime/error.h"
#include "runtime/float16.h"
#include "runtime/float8.h"
#include "runtime/float_mode.h"

namespace millrace {
namespace {

constexpr std::int64_t block = BlockScales::block;

float scale_at(Dtype dtype, const std::byte* data) noexcept {
  if (dtype == Dtype::f32) {
    float value = 0;
    std::memcpy(&value, data, sizeof value);
    return value;
  }
  if (dtype == Dtype::bf16 || dtype == Dtype::f16) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, data, sizeof bits);
    return dtype == Dtype::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
  }
  return e8m0_to_f32(std::to_integer<std::uint8_t>(*data));
}

ScaleGrid regular_segments(std::int64_t segments, std::span<const std::int64_t> scale_shape) {
  ScaleGrid grid;
  grid.segments = segments;
  grid.rows = scale_shape[0];
  grid.columns = scale_shape[1];
  grid.stride = scale_shape[0] / segments;
  return grid;
}

// A run of rows that share their scales, dequantized block by block: all codes of a block have few enough values for a
// table.
void dequantize_run(const std::uint8_t* codes, std::int64_t columns, const float* scales, std::int64_t rows,
                    Bfloat16* out) noexcept {
  std::array<Bfloat16, 256> table;
  for (std::int64_t first = 0; first < columns; first += block) {
    const float scale = scales[first / block];
    for (std::size_t code = 0; code < table.size(); ++code)
      table[code] = bf16_from_f32(e4m3_to_f32(static_cast<std::uint8_t>(code)) * scale);
    const std::int64_t last = std::min(first + block, columns);
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t column = first; column < last; ++column)
        out[row * columns + column] = table[codes[row * columns + column]];
  }
}

}  // namespace

ScaleGrid resolve_scale_grid(std::string_view weight, std::int64_t rows, std::int64_t columns,
                             std::span<const std::int64_t> scale_shape, std::int64_t segments_hint) {
  const std::array<std::int64_t, 2> regular = {scale_blocks(rows), scale_blocks(columns)};
  const std::array<std::int64_t, 2> shape = {rows, columns};
  if (scale_shape.size() == 2 && scale_shape[1] == regular[1])
    for (std::int64_t segments :
         {std::int64_t{1}, segments_hint, std::int64_t{8}, std::int64_t{4}, std::int64_t{2}, std::int64_t{16}})
      if (segments > 0 && rows % segments == 0 && segments * scale_blocks(rows / segments) == scale_shape[0])
        return regular_segments(segments, scale_shape);
  fail(Errc::bad_file,
       "{}: scales of shape {} fit no block grid of a weight of shape {}; {} were expected, or more rows if each kv "
       "head has a grid of its own",
       weight, shape_text(scale_shape), shape_text(shape), shape_text(regular));
}

ScaleGrid segmented_grid(std::string_view weight, std::int64_t rows, std::int64_t columns,
                         std::span<const std::int64_t> scale_shape, std::int64_t segments) {
  const std::array<std::int64_t, 2> shape = {rows, columns};
  const std::array<std::int64_t, 2> expected = {segments * scale_blocks(rows / segments), scale_blocks(columns)};
  require(rows % segments == 0 && std::equal(scale_shape.begin(), scale_shape.end(), expected.begin(), expected.end()),
          Errc::bad_file, "{}: scales of shape {} do not fit a weight of shape {} in {} runs of rows; {} were expected",
          weight, shape_text(scale_shape), shape_text(shape), segments, shape_text(expected));
  return regular_segments(segments, scale_shape);
}

ScaleGrid cut_grid(const ScaleGrid& whole, std::int64_t segment_rows, const RowRuns& part) noexcept {
  const std::int64_t in_segment = part.first % segment_rows, per_segment = whole.rows_per_segment();
  ScaleGrid grid;
  grid.segments = part.runs;
  grid.columns = whole.columns;
  grid.skipped_rows = in_segment % block;
  grid.rows = part.runs * scale_blocks(grid.skipped_rows + part.rows);
  grid.first_row = whole.first_row + part.first / segment_rows * per_segment + in_segment / block;
  grid.stride = part.stride / segment_rows * per_segment;
  return grid;
}

bool is_scale_dtype(Dtype dtype) noexcept {
  return dtype == Dtype::f32 || dtype == Dtype::bf16 || dtype == Dtype::f16 || dtype == Dtype::f8_e8m0 ||
         dtype == Dtype::u8;
}

std::int64_t convert_scales(Dtype dtype, std::span<const std::byte> data, float* scales) noexcept {
  const std::int64_t size = size_of(dtype);
  const std::int64_t count = static_cast<std::int64_t>(data.size()) / size;
  std::int64_t bad = -1;
  for (std::int64_t i = count - 1; i >= 0; --i) {
    scales[i] = scale_at(dtype, data.data() + i * size);
    if (!std::isfinite(scales[i])) bad = i;
  }
  return bad;
}

std::int64_t find_nan_code(std::span<const std::uint8_t> codes) noexcept {
  constexpr std::size_t run = 4096;
  for (std::size_t begin = 0; begin < codes.size(); begin += run) {
    const std::size_t end = std::min(begin + run, codes.size());
    // Without an early exit the compiler compares a vector of codes at a time.
    std::uint8_t found = 0;
    for (std::size_t i = begin; i < end; ++i) found |= static_cast<std::uint8_t>((codes[i] & 0x7fu) == 0x7fu);
    for (std::size_t i = begin; found && i < end; ++i)
      if (e4m3_is_nan(codes[i])) return static_cast<std::int64_t>(i);
  }
  return -1;
}

void dequantize_rows(const std::uint8_t* codes, std::int64_t columns, const BlockScales& scales, std::int64_t begin,
                     std::int64_t end, Bfloat16* out) noexcept {
  const FloatMode mode;
  while (begin < end) {
    const std::int64_t in_segment = begin % scales.segment_rows;
    const std::int64_t in_block = (scales.skipped_rows + in_segment) % block;
    const std::int64_t to_block_end = std::min(block - in_block, scales.segment_rows - in_segment);
    const std::int64_t rows = std::min(to_block_end, end - begin);
    dequantize_run(codes + begin * columns, columns, scales.row(begin), rows, out + begin * columns);
    begin += rows;
  }
}

}  // namespace millrace
