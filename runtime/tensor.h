// Tensor: a read-only typed view of memory that someone else owns. Copying it is free.
// Row-major, rank 0 to 4, no padding between rows. A quantized weight carries its block scales.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/dtype.h"

namespace millrace {

// Scales of an F8_E4M3 weight [rows, columns]: one factor per block of 128 x 128. The rows form equal segments, each
// with a block grid of its own, so the last block of a segment may be partial (an ordinary weight has one segment), and
// so may be the first, where a weight is cut out of a larger one.
struct BlockScales {
  static constexpr std::int64_t block = 128;

  const float* data = nullptr;    // (segments * ceil((skipped_rows + segment_rows) / 128), columns)
  std::int64_t columns = 0;       // ceil(weight columns / 128)
  std::int64_t segment_rows = 0;  // weight rows per segment
  std::int64_t skipped_rows = 0;  // of a segment's first block, 0 to 127: the segment begins after them
  // (weight rows, ceil(columns / 8)): bit b % 8 of byte b / 8 of a row tells whether one of its codes in columns
  // [128 b, 128 b + 128) has exponent zero, which kernels treat apart. Null = not known.
  const std::uint8_t* small_codes = nullptr;

  explicit operator bool() const noexcept { return data != nullptr; }

  // The scales of one weight row: (columns).
  const float* row(std::int64_t weight_row) const noexcept {
    const std::int64_t grid_rows = (skipped_rows + segment_rows + block - 1) / block;
    const std::int64_t segment = weight_row / segment_rows;
    return data + (segment * grid_rows + (skipped_rows + weight_row % segment_rows) / block) * columns;
  }
};

class Tensor {
 public:
  static constexpr int max_rank = 4;

  Tensor() = default;
  // `data` must stay valid and unchanged while the view is used.
  Tensor(Dtype dtype, std::span<const std::int64_t> shape, const void* data, BlockScales scales = {});
  // A weight (rows, columns) in MXFP4 (runtime/float4.h): `codes` (rows, columns / 2) U8, the even column in the low
  // nibble, and `exponents` (rows, columns / 32). The shape is that of the codes.
  static Tensor mxfp4(std::int64_t rows, std::int64_t columns, const void* codes, const std::uint8_t* exponents);

  Dtype dtype() const noexcept { return dtype_; }
  std::span<const std::int64_t> shape() const noexcept { return {shape_.data(), static_cast<std::size_t>(rank_)}; }
  int rank() const noexcept { return rank_; }
  std::int64_t dim(int axis) const noexcept { return shape_[static_cast<std::size_t>(axis)]; }
  std::int64_t elements() const noexcept;
  std::int64_t bytes() const noexcept { return elements() * size_of(dtype_); }
  bool empty() const noexcept { return data_ == nullptr; }

  const void* data() const noexcept { return data_; }
  template <class T>
  const T* as() const noexcept {
    return static_cast<const T*>(data_);
  }
  const BlockScales& scales() const noexcept { return scales_; }
  const std::uint8_t* exponents() const noexcept { return exponents_; }  // of MXFP4, else null

  // Rows [begin, end) of the leading axis as a view of the same rank. Not for quantized weights.
  Tensor rows(std::int64_t begin, std::int64_t end) const;

 private:
  const void* data_ = nullptr;
  std::array<std::int64_t, max_rank> shape_{};
  int rank_ = 0;
  Dtype dtype_ = Dtype::f32;
  BlockScales scales_;
  const std::uint8_t* exponents_ = nullptr;
};

// "[768, 4096]"
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace millrace
