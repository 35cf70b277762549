// The weight of a Linear: first found and checked by its header (StoredLinear), later brought into the form its kernels
// take (LoadedLinear). The two are apart so that thousands of experts can be checked without reading one of them.
#pragma once

#include <cstdint>

#include "loader/checkpoint.h"
#include "loader/fp8_blocks.h"
#include "loader/weight_options.h"
#include "runtime/buffer.h"

namespace millrace {

// A weight (out, in) in a checkpoint, which must outlive it: `weight.entry` as a whole, or `offset` bytes into it where
// several matrices share one tensor. Shape, dtype and scale grid are checked; its data have not been touched.
struct StoredLinear {
  StoredTensor weight;
  StoredTensor scale;  // empty unless the weight is F8_E4M3
  std::uint64_t offset = 0;
  std::int64_t out = 0, in = 0;
  ScaleGrid grid;

  std::uint64_t bytes() const noexcept;  // in the file, without scales
};

// Finds `name` (canonical). segments_hint: kv heads of the layer for k_proj, else 1.
// Throws Error naming the tensor as files spell it: not_found; bad_file for another shape, an F8 weight without scales,
// scales beside another weight, a scale grid that does not fit; unsupported for another dtype.
StoredLinear find_linear(const Checkpoint& checkpoint, std::string_view name, std::int64_t out, std::int64_t in,
                         std::int64_t segments_hint);

// Throws Error(unsupported) naming the tensor unless it is BF16, F16 or F32.
void require_float(const StoredTensor& stored);

struct LoadedLinear {
  Tensor tensor;          // views `memory` or the mapped file
  Buffer memory, scales;  // owned; empty where the file's bytes serve; scales and what else BlockScales points to
};

// Reads, checks and converts:
//   F8_E4M3    bf16 (dequantized) with WeightFormat::bf16, else the codes in place with scales; always with f32
//   BF16       in place
//   F16, F32   bf16 in fast and hf (rounded); F32 in f32, in place where the file holds F32
// Throws Error(io), and Error(bad_file) naming tensor, row and column of a NaN code or a non-finite scale.
LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options);

// The tensor load_linear would give, over the file's unread bytes whatever its dtype: for plans, not for computing.
Tensor plan_linear(const StoredLinear& stored, const WeightOptions& options);

// Bytes that loading takes beside the mapped file.
std::uint64_t owned_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept;

}  // namespace millrace
