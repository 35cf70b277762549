// The weight of a Linear as files hold it, found and checked by its header; load_linear.h brings it into memory. The
// two are apart so that thousands of experts can be checked without reading one of them.
#pragma once

#include <cstdint>

#include "loader/checkpoint.h"
#include "loader/fp8_blocks.h"

namespace millrace {

// A weight (out, in) in a checkpoint, which must outlive it: some or all rows of a tensor, which counts as a matrix of
// `in` columns whatever its rank. Shape, dtype and scales are checked; the data have not been touched.
struct StoredLinear {
  StoredTensor weight;
  StoredTensor scale;  // of F8_E4M3 and MXFP4, else empty
  std::int64_t out = 0, in = 0;
  RowRuns rows;    // of the tensor: `out` in all
  ScaleGrid grid;  // of F8_E4M3
  // Above 0 where the tensor is (matrices, in, pitch): each matrix is transposed, row r of the weight being column
  // r % pitch of matrix r / pitch.
  std::int64_t pitch = 0;

  bool is_mxfp4() const noexcept { return weight.entry->dtype == Dtype::u8; }
  std::int64_t row_bytes() const noexcept;                                                        // in the file
  std::uint64_t scale_bytes() const noexcept;                                                     // in the file
  std::uint64_t bytes() const noexcept { return static_cast<std::uint64_t>(out * row_bytes()); }  // without scales
};

// "FILE: tensor NAME", as messages begin.
std::string title_of(const StoredTensor& stored);

// Finds `name` (canonical). segments_hint: kv heads of the layer for k_proj, else 1.
//   F8_E4M3          with scales `name`_scale_inv, one per block of 128 x 128
//   U8 (out, in / 2) MXFP4 with exponents `name`_scale (out, in / 32), U8 or F8_E8M0
//   BF16, F16, F32   without scales
// Throws Error naming the tensor as files spell it: not_found; bad_file for another shape, missing scales, scales
// beside a weight that takes none, scales that do not fit; unsupported for another dtype.
StoredLinear find_linear(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in,
                         std::int64_t segments_hint);

// A weight (out, in) of chunks, each with a scale grid of its own; not MXFP4. Throws the same.
StoredLinear find_chunked(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in,
                          std::int64_t chunks);

// The tensor `name` (matrices, out, in), each matrix made of `parts` equal runs of rows, as one weight (matrices * out,
// in); not MXFP4. The scales of F8_E4M3 are (matrices, R, ceil(in / 128)): a grid over each matrix, or over each part.
// With `transposed` the tensor is (matrices, in, out) and has no scales.
// Throws the same, and unsupported where R leaves open which of the two it is, and for transposed F8_E4M3.
StoredLinear find_stacked(const Checkpoint& checkpoint, std::string_view name, std::int64_t matrices, std::int64_t out,
                          std::int64_t in, std::int64_t parts, bool transposed = false);

// Some of the rows of a chunked or stacked weight.
StoredLinear cut_linear(const StoredLinear& whole, const RowRuns& rows);

// Throws Error(unsupported) naming the tensor unless it is BF16, F16 or F32.
void require_float(const StoredTensor& stored);

}  // namespace millrace
