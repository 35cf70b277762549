// Element types of weights in files, converted to those that operators take. Pure functions; data may be unaligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/bfloat16.h"
#include "runtime/dtype.h"

namespace millrace {

// Whether the functions below take this type: BF16, F16 or F32.
bool is_float_dtype(Dtype dtype) noexcept;

// `count` elements, exactly.
void convert_to_f32(Dtype dtype, const std::byte* data, std::int64_t count, float* out) noexcept;

// `count` elements, rounded to nearest even.
void convert_to_bf16(Dtype dtype, const std::byte* data, std::int64_t count, Bfloat16* out) noexcept;

// The index of the first NaN or infinity, or -1.
std::int64_t find_non_finite(Dtype dtype, const std::byte* data, std::int64_t count) noexcept;

}  // namespace millrace
