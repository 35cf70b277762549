#include "ops/fp8_marks.h"

#include <algorithm>

#include "runtime/tensor.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(MarkSmallCodesFn, mark_small_codes)

namespace scalar {

bool mark_small_codes(const std::uint8_t* codes, std::int64_t columns, std::int64_t begin, std::int64_t end,
                      std::uint8_t* small_codes) noexcept {
  constexpr std::int64_t block = BlockScales::block;
  const std::int64_t blocks = (columns + block - 1) / block, row_bytes = (blocks + 7) / 8;
  bool nan = false;
  for (std::int64_t row = begin; row < end; ++row) {
    std::uint8_t* marks = small_codes + row * row_bytes;
    std::fill_n(marks, row_bytes, std::uint8_t{0});
    for (std::int64_t i = 0; i < columns; ++i) {
      const std::uint8_t code = codes[row * columns + i];
      if ((code & 0x78u) == 0) marks[i / block / 8] |= static_cast<std::uint8_t>(1u << i / block % 8);
      nan |= (code & 0x7fu) == 0x7fu;
    }
  }
  return !nan;
}

}  // namespace scalar

const Kernel<MarkSmallCodesFn> mark_small_codes_kernel = {
    "mark_small_codes",
    {scalar::mark_small_codes, MILLRACE_AVX2(mark_small_codes), MILLRACE_AVX512(mark_small_codes), nullptr, nullptr},
};

}  // namespace millrace
