#include "ops/vec.h"
#include "runtime/numerics.h"

namespace millrace::MILLRACE_ISA {

void add(const float* a, const float* b, float* y, std::int64_t count, Rounding rounding) noexcept {
  for (std::int64_t i = 0; i < count; i += Lanes::width) {
    Lanes sum = Lanes::load_first(a + i, count - i) + Lanes::load_first(b + i, count - i);
    if (rounding == Rounding::bf16) sum = round_bf16(sum);
    sum.store_first(y + i, count - i);
  }
}

}  // namespace millrace::MILLRACE_ISA
