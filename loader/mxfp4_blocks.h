// MXFP4 weights (runtime/float4.h) on their way from files into memory.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/float4.h"

namespace millrace {

// The index of the first exponent that is NaN or lets a code overflow, or -1.
std::int64_t find_bad_exponent(std::span<const std::uint8_t> exponents) noexcept;

// codes (rows, columns / 2) and exponents (rows, columns / 32) to out (rows, columns), exactly.
void dequantize_mxfp4(const std::uint8_t* codes, const std::uint8_t* exponents, std::int64_t rows, std::int64_t columns,
                      Bfloat16* out) noexcept;

}  // namespace millrace
