#include "ops/vec.h"
#include "runtime/numerics.h"

namespace millrace::MILLRACE_ISA {

void swiglu(const float* gate, const float* up, float* out, std::int64_t count, Rounding rounding) noexcept {
  for (std::int64_t i = 0; i < count; i += Lanes::width) {
    const Lanes a = Lanes::load_first(gate + i, count - i);
    const Lanes b = Lanes::load_first(up + i, count - i);
    Lanes silu = a * sigmoid(a);
    if (rounding == Rounding::bf16)
      silu = round_bf16(round_bf16(silu) * b);
    else
      silu = silu * b;
    silu.store_first(out + i, count - i);
  }
}

}  // namespace millrace::MILLRACE_ISA
