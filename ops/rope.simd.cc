#include "ops/vec.h"
#include "runtime/numerics.h"

namespace millrace::MILLRACE_ISA {
namespace {

Lanes rounded(const Lanes& value, Rounding rounding) noexcept {
  return rounding == Rounding::bf16 ? round_bf16(value) : value;
}

void turn(const float* x, const float* cosine, const float* sine, float* y, std::int64_t half, Rounding rounding,
          Rounding output) noexcept {
  for (std::int64_t i = 0; i < half; i += 16) {
    const std::int64_t left = half - i;
    const Lanes a = Lanes::load_first(x + i, left), b = Lanes::load_first(x + half + i, left);
    const Lanes c = Lanes::load_first(cosine + i, left), s = Lanes::load_first(sine + i, left);
    Lanes first, second;
    if (rounding == Rounding::bf16) {
      first = round_bf16(round_bf16(a * c) - round_bf16(b * s));
      second = round_bf16(round_bf16(b * c) + round_bf16(a * s));
    } else {
      first = rounded(fma(a, c, Lanes::broadcast(-0.0f) - b * s), output);
      second = rounded(fma(b, c, a * s), output);
    }
    first.store_first(y + i, left);
    second.store_first(y + half + i, left);
  }
}

}  // namespace

void rope(const float* x, const float* cosines, const float* sines, float* y, std::int64_t rows, std::int64_t heads,
          std::int64_t dim, std::int64_t half, Rounding rounding, Rounding output) noexcept {
  for (std::int64_t head = 0; head < rows * heads; ++head, x += dim, y += dim) {
    turn(x, cosines + head / heads * half, sines + head / heads * half, y, half, rounding, output);
    for (std::int64_t e = 2 * half; e < dim; e += 16)
      rounded(Lanes::load_first(x + e, dim - e), output).store_first(y + e, dim - e);
  }
}

}  // namespace millrace::MILLRACE_ISA
