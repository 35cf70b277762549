#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {

void expert_combine(float weight, const float* y, float* out, std::int64_t count) noexcept {
  const Lanes factor = Lanes::broadcast(weight);
  for (std::int64_t i = 0; i < count; i += Lanes::width) {
    const std::int64_t rest = count - i;
    fma(factor, Lanes::load_first(y + i, rest), Lanes::load_first(out + i, rest)).store_first(out + i, rest);
  }
}

}  // namespace millrace::MILLRACE_ISA
