// The weight of a Linear, brought into the form its kernels take.
#pragma once

#include <cstdint>

#include "loader/stored_linear.h"
#include "loader/weight_options.h"
#include "runtime/buffer.h"

namespace millrace {

struct LoadedLinear {
  Tensor tensor;          // views `memory` or the mapped file
  Buffer memory, scales;  // owned; empty where the file's bytes serve
};

// Reads, checks and converts:
//   F8_E4M3, MXFP4  bf16 (dequantized) with WeightFormat::bf16, else the codes with their scales; always with f32
//   BF16            as stored
//   F16, F32        bf16 in fast and hf (rounded); F32 in f32
// What needs no conversion stays in the mapped file unless the options want it resident, or its rows are not in one
// run, or lie unaligned. Throws Error(io), and Error(bad_file) naming tensor, row and column of a NaN code or a scale
// that is no number.
LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options);

// The tensor load_linear would give, over the file's unread bytes whatever its dtype: for plans, not for computing.
Tensor plan_linear(const StoredLinear& stored, const WeightOptions& options);

// Bytes that loading takes beside the mapped file.
std::uint64_t owned_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept;

}  // namespace millrace
