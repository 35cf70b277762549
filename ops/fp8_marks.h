// Marks of small codes in FP8 weights: which blocks have E4M3 codes of exponent zero, which kernels unpack apart.
#pragma once

#include <cstdint>

#include "ops/isa.h"

namespace millrace {

// BlockScales::small_codes of rows [begin, end) of a weight (rows, columns); codes and small_codes are the whole
// weight's. Whether none of the codes is NaN, which costs nothing here.
using MarkSmallCodesFn = bool(const std::uint8_t* codes, std::int64_t columns, std::int64_t begin, std::int64_t end,
                              std::uint8_t* small_codes) noexcept;
extern const Kernel<MarkSmallCodesFn> mark_small_codes_kernel;

}  // namespace millrace
