// Where values are rounded: a named choice, never an accident.
#pragma once

namespace millrace {

enum class Numerics {
  fast,  // bf16 operands, fp32 accumulation, fp32 between the operators
  hf,    // rounds to bf16 exactly where the Transformers implementation does
  f32,   // every product and sum in fp32; an FP8 weight is code * scale in fp32
};

// How dense weights and experts are held in memory. In `fast` and `hf` both give the same bits.
enum class WeightFormat {
  bf16,  // FP8 blocks are dequantized when loaded
  fp8,   // FP8 blocks stay as they are in the file and are decoded inside the kernel
};

// What happens to an operator's result before it is stored as fp32.
enum class Rounding { none, bf16 };

}  // namespace millrace
