// Where values are rounded: a named choice, never an accident.
#pragma once

#include <cstdint>

namespace millrace {

enum class Numerics : std::uint8_t {
  fast,  // bf16 operands, fp32 sums (on amx in the order of ops/linear_tiles.h), fp32 between the operators
  hf,    // rounds to bf16 exactly where the Transformers implementation does
  f32,   // every product and sum in fp32; an FP8 weight is code * scale in fp32

  // As f32, but the inputs of FP8 weights are quantized to FP8, as block-FP8 GPU engines do (ops/linear_w8a8.h). What
  // surrounds these products is fp32, so that a deviation is one of quantization and not of rounding in between.
  w8a8,
  w8a8_ue8m0,  // the same with activation scales that are powers of two

  // The same within hf instead of f32: such engines keep bf16 between their operators. To be compared by statistics:
  // rounding moves codes, and from there on values differ by a step of a code.
  w8a8_bf16,
  w8a8_bf16_ue8m0,
};

// Whether the inputs of FP8 weights are quantized.
constexpr bool quantizes_inputs(Numerics numerics) noexcept {
  return numerics >= Numerics::w8a8;
}

// Whether the scales of quantized inputs are powers of two.
constexpr bool has_power_of_two_scales(Numerics numerics) noexcept {
  return numerics == Numerics::w8a8_ue8m0 || numerics == Numerics::w8a8_bf16_ue8m0;
}

// Whether every operator rounds to bf16 as Transformers does.
constexpr bool rounds_as_hf(Numerics numerics) noexcept {
  return numerics == Numerics::hf || numerics == Numerics::w8a8_bf16 || numerics == Numerics::w8a8_bf16_ue8m0;
}

// Whether fp32 is all there is beside quantized inputs.
constexpr bool keeps_f32(Numerics numerics) noexcept {
  return numerics == Numerics::f32 || numerics == Numerics::w8a8 || numerics == Numerics::w8a8_ue8m0;
}

// How dense weights and experts are held in memory. In `fast` and `hf` both give the same bits; the others always keep
// FP8 as it is.
enum class WeightFormat {
  bf16,  // FP8 blocks are dequantized when loaded
  fp8,   // FP8 blocks stay as they are in the file and are decoded inside the kernel
};

// What happens to an operator's result before it is stored as fp32.
enum class Rounding { none, bf16 };

}  // namespace millrace
