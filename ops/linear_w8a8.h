// The product of block-FP8 GPU engines ("W8A8"), at the level of functions: the inputs of an FP8 weight are quantized
// to FP8 themselves, per row and group of 128, and each block's sum is scaled into the result.
//   s = max(largest |x| of the group, 1e-10) / 448, with ActivationScale::power_of_two rounded up to a power of two
//   q = e4m3(x / s), to nearest even, at most 448
//   y = 0, then for each block y = y + ((sum of q * code) * s) * scale of the weight's block
// in fp32, one rounding per operation. A group with a NaN or an infinity has the scale NaN and makes its row NaN.
// Source: vLLM per_token_group_quant_fp8 and w8a8_block_fp8_matmul; for powers of two DeepGEMM's UE8M0 scales, here of
// the inputs only: the weight's scales stay as they are stored.
//
// Order contract. The sum of a block keeps 16 lanes: element e is added to lane e % 16 in ascending order (the products
// are exact), then lane i with i + 8, i + 4, i + 2 and i + 1. The last block is padded with zeros.
//
// Kernels obey the rules of ops/linear_kernels.h, whose LinearCall they take: `x` points to QuantizedGroups.
#pragma once

#include "ops/linear_kernels.h"

namespace millrace {

enum class ActivationScale : std::uint8_t { f32, power_of_two };

// A row is quantized group by group, the last one padded with zeros: a part that begins with a group can be made alone.
struct alignas(64) QuantizedGroup {
  std::uint16_t values[linear_block];  // q as bf16, which holds it exactly
  float scale;
};

// Groups of a row.
constexpr std::int64_t quantized_groups(std::int64_t inputs) noexcept {
  return padded_inputs(inputs) / linear_block;
}

// x: (rows, inputs); groups: (rows, quantized_groups).
using QuantizeRowsFn = void(const float* x, std::int64_t rows, std::int64_t inputs, ActivationScale scale,
                            QuantizedGroup* groups) noexcept;
extern const Kernel<QuantizeRowsFn> quantize_rows_kernel;

extern const Kernel<LinearFn> linear_w8a8_kernel;  // f8_e4m3 weights only

}  // namespace millrace
