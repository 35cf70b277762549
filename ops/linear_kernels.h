// The matrix product behind Linear and ExpertMlp, at the level of functions: y[r][o] = sum over e of x[r][e] * w[o][e].
// Kernels are pure: they read a weight and packed rows, write outputs [begin, end) of each row, and use the caller's
// scratch; several threads may run on disjoint ranges of outputs. Results do not depend on the tier, on the number of
// rows in the call, or on how outputs are divided. This header is for kernel sources too: no containers.
//
// Order contract of Compute::bf16. The elements of a row are padded with zeros to a multiple of 128. Element e belongs
// to accumulator a = 2 * (e / 64 % 2) + e / 8 % 2, each accumulator being 16 lanes. Within a group of 64, the 32
// elements of an accumulator are, in order, the runs of 8 {0-7, 16-23, 32-39, 48-55} (a even) or {8-15, 24-31, 40-47,
// 56-63} (a odd); the one at position p belongs to lane p / 2. Of each pair of positions the odd one is added first,
// then the even one, both by a fused multiply-add with denormals flushed. At the end come (acc0 + acc1) + (acc2 + acc3)
// lane by lane, then lane i with i + 8, i + 4, i + 2 and i + 1. Steps and groups are in ascending order.
// Why this order: unpacking the bytes of 64 decoded FP8 codes within 128-bit lanes gives it, and vdpbf16ps adds so.
//
// Order contract of Compute::f32. Padded with zeros to a multiple of 64; element e goes to lane e % 16 of accumulator
// e / 16 % 4 by a fused multiply-add; the same final sum.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/isa.h"

namespace millrace {

inline constexpr std::int64_t linear_block = 128;  // unit of padding, and the side of a block of scales

enum class LinearFormat : std::uint8_t {
  bf16,     // bfloat16
  f8_e4m3,  // codes with block scales; in Compute::bf16 a weight is bf16(code * scale), in Compute::f32 code * scale
  mxfp4,    // two codes a byte with an exponent for 32 of them (runtime/float4.h), exact in bf16
  f32,      // Compute::f32 only
};

// A weight as kernels see it: (outputs, inputs), row-major. Not owning.
struct LinearWeight {
  const void* data;
  const float* scales;  // of f8_e4m3, laid out as BlockScales
  LinearFormat format;
  std::int64_t outputs, inputs;
  std::int64_t scale_columns;                 // blocks per row
  std::int64_t segment_rows;                  // outputs per grid of scales
  std::int64_t skipped_rows;                  // of the first block of such a grid
  const std::uint8_t* small_codes = nullptr;  // as BlockScales
  const std::uint8_t* exponents = nullptr;    // of mxfp4: (outputs, inputs / 32)

  [[gnu::always_inline]] std::int64_t row_bytes() const noexcept {
    if (format == LinearFormat::mxfp4) return inputs / 2;
    return inputs * (format == LinearFormat::f32 ? 4 : format == LinearFormat::bf16 ? 2 : 1);
  }
  [[gnu::always_inline]] const std::byte* row(std::int64_t output) const noexcept {
    return static_cast<const std::byte*>(data) + output * row_bytes();
  }

  // The scales of one output: (scale_columns).
  [[gnu::always_inline]] const float* scales_of(std::int64_t output) const noexcept {
    const std::int64_t grid_rows = (skipped_rows + segment_rows + linear_block - 1) / linear_block;
    const std::int64_t grid_row =
        output / segment_rows * grid_rows + (skipped_rows + output % segment_rows) / linear_block;
    return scales + grid_row * scale_columns;
  }
  // The first output after this one that has other scales.
  [[gnu::always_inline]] std::int64_t scales_end(std::int64_t output) const noexcept {
    const std::int64_t in_segment = output % segment_rows,
                       block = linear_block - (skipped_rows + in_segment) % linear_block;
    return output + (block < segment_rows - in_segment ? block : segment_rows - in_segment);
  }
};

struct LinearCall {
  LinearWeight weight;
  const void* x;               // Compute::bf16: rows of pack_bf16; Compute::f32: float (.., inputs)
  const std::int32_t* x_rows;  // (rows) which rows of x to use, or null for rows 0, 1, ...
  std::int64_t rows;
  float* y;                 // (rows, y_stride)
  std::int64_t y_stride;    // elements from row to row of y
  std::int64_t begin, end;  // outputs to compute
  std::byte* scratch;       // linear_scratch_bytes(inputs), aligned to 64; contents undefined
  // The call before, with this scratch, was of the same kernel, x, x_rows, rows and inputs: what it made of them in the
  // scratch serves again.
  bool same_x = false;
  const void* next = nullptr;  // weights that the caller's thread reads after these, or null
};

constexpr std::int64_t padded_inputs(std::int64_t inputs) noexcept {
  return (inputs + linear_block - 1) / linear_block * linear_block;
}

// Memory of `rows` packed rows.
constexpr std::size_t packed_bytes(std::int64_t rows, std::int64_t inputs) noexcept {
  return static_cast<std::size_t>(rows * padded_inputs(inputs)) * sizeof(std::uint16_t);
}

// Rounds rows to bf16 (nearest even), pads and permutes them as the contract wants them: position q of a packed row
// belongs to accumulator q / 32 % 4 and is position q % 32 there. x: (rows, inputs), packed: (rows, padded_inputs).
using PackBf16Fn = void(const float* x, std::int64_t rows, std::int64_t inputs, std::uint16_t* packed) noexcept;
extern const Kernel<PackBf16Fn> pack_bf16_kernel;

using LinearFn = void(const LinearCall& call) noexcept;
extern const Kernel<LinearFn> linear_bf16_kernel;  // x is packed; bf16 or f8_e4m3 weights
extern const Kernel<LinearFn> linear_f32_kernel;   // x is plain; any weight
// The bits of linear_bf16 by fp32 multiply-adds, where the tier's linear_bf16 uses vdpbf16ps.
extern const Kernel<LinearFn> linear_bf16_widened_kernel;

// The kernel to call for so many rows on the active tier. The first call measures for a fraction of a millisecond
// whether vdpbf16ps or fp32 multiply-adds are faster here (half as fast on some processors, twice on others), for one
// row, for few and for many; the bits are the same.
LinearFn* best_linear_bf16(std::int64_t rows);

// Scratch of one kernel call, whatever its tier, rows and range.
std::size_t linear_scratch_bytes(std::int64_t inputs) noexcept;

// How the kernels of the tiers divide that scratch.
struct LinearScratch {
  static constexpr std::int64_t tile_outputs = 8;           // most outputs of a tile of weights
  static constexpr std::int64_t group_bytes = 1024 * 1024;  // inputs that stay in the second-level cache

  std::byte* decoding;  // tables of 64 bytes per block, then a row of bf16 weights
  std::byte* x;         // inputs of a group of rows, up to 4 bytes each
  std::byte* w;         // a strip of a tile's weights for two accumulators, up to 4 bytes each
  float* sums;          // 4 x 16 lanes for each output of a tile and each row of a group

  LinearScratch(std::byte* memory, std::int64_t inputs) noexcept
      : decoding(memory),
        x(decoding + padded_inputs(inputs) / linear_block * 64 + padded_inputs(inputs) * 2),
        w(x + group_rows(inputs) * padded_inputs(inputs) * 4),
        sums(reinterpret_cast<float*>(w + tile_outputs * strip_inputs(inputs) * 2)) {}

  // A multiple of 3, from 6 to 96.
  static constexpr std::int64_t group_rows(std::int64_t inputs) noexcept {
    const std::int64_t threes = group_bytes / (12 * padded_inputs(inputs));
    return 3 * (threes < 2 ? 2 : threes > 32 ? 32 : threes);
  }
  // The same for groups of about equal size that have so many rows in all.
  static constexpr std::int64_t even_group_rows(std::int64_t inputs, std::int64_t rows) noexcept {
    const std::int64_t most = group_rows(inputs), groups = (rows + most - 1) / most;
    return (rows + groups - 1) / groups;
  }
  // Inputs of a strip of weights, which stays in the first-level cache: a whole row where it can, since between strips
  // sums are kept for each accumulator; else a multiple of 8 blocks.
  static constexpr std::int64_t strip_inputs(std::int64_t inputs) noexcept {
    return padded_inputs(inputs) <= 2048 ? padded_inputs(inputs) : 1024;
  }
  static constexpr std::size_t bytes(std::int64_t inputs) noexcept {
    const std::int64_t row = padded_inputs(inputs), rows = group_rows(inputs);
    const std::int64_t bf16 = row / linear_block * 64 + row * 2 + rows * row * 4 +
                              tile_outputs * strip_inputs(inputs) * 2 + rows * tile_outputs * 4 * 64;
    const std::int64_t f32 = tile_outputs * row * 4;  // linear_f32 widens a tile of weights
    return static_cast<std::size_t>(bf16 > f32 ? bf16 : f32);
  }
};

}  // namespace millrace
