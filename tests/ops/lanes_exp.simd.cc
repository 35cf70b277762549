// Gives math_test.cc the vector exp of ops/vec.h on every tier.
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {

void lanes_exp(const float* x, float* y, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; i += Lanes::width)
    exp(Lanes::load_first(x + i, count - i)).store_first(y + i, count - i);
}

}  // namespace millrace::MILLRACE_ISA
