#include <cmath>

#include "ops/vec.h"
#include "runtime/numerics.h"

namespace millrace::MILLRACE_ISA {

void rms_norm(const float* x, const float* weight, float* y, std::int64_t rows, std::int64_t hidden, float epsilon,
              Rounding rounding) noexcept {
  for (std::int64_t row = 0; row < rows; ++row, x += hidden, y += hidden) {
    Lanes squares = Lanes::zero();
    for (std::int64_t e = 0; e < hidden; e += 16) {
      const Lanes value = Lanes::load_first(x + e, hidden - e);
      squares = fma(value, value, squares);
    }
    const Lanes scale = Lanes::broadcast(1.0f / std::sqrt(squares.sum() / static_cast<float>(hidden) + epsilon));
    for (std::int64_t e = 0; e < hidden; e += 16) {
      const Lanes w = Lanes::load_first(weight + e, hidden - e);
      Lanes value = Lanes::load_first(x + e, hidden - e) * scale;
      if (rounding == Rounding::bf16)
        value = round_bf16(w * round_bf16(value));
      else
        value = w * value;
      value.store_first(y + e, hidden - e);
    }
  }
}

}  // namespace millrace::MILLRACE_ISA
