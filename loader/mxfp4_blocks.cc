#include "loader/mxfp4_blocks.h"

#include <algorithm>

namespace millrace {

std::int64_t find_bad_exponent(std::span<const std::uint8_t> exponents) noexcept {
  const auto bad = std::find_if(exponents.begin(), exponents.end(),
                                [](std::uint8_t exponent) { return exponent > mxfp4_largest_exponent; });
  return bad == exponents.end() ? -1 : bad - exponents.begin();
}

void dequantize_mxfp4(const std::uint8_t* codes, const std::uint8_t* exponents, std::int64_t rows, std::int64_t columns,
                      Bfloat16* out) noexcept {
  for (std::int64_t i = 0; i < rows * columns / mxfp4_block; ++i)
    for (std::int64_t pair = 0; pair < mxfp4_block / 2; ++pair, ++codes) {
      *out++ = mxfp4_to_bf16(*codes & 15u, exponents[i]);
      *out++ = mxfp4_to_bf16(*codes >> 4u, exponents[i]);
    }
}

}  // namespace millrace
