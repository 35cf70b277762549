#include "ops/concat.h"

#include <algorithm>

#include "runtime/error.h"

namespace millrace {

Concat::Concat(std::int64_t first, std::int64_t second) : first_(first), second_(second) {
  require(first >= 1 && second >= 1, Errc::bad_argument, "concat of widths {} and {}, expected 1 or more", first,
          second);
}

void Concat::run(const StepContext& context) const {
  const float* a = context.input(0);
  const float* b = context.input(1);
  float* y = context.output(0);
  context.parallel.for_range(context.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* next = std::copy_n(a + row * first_, first_, y + row * (first_ + second_));
      std::copy_n(b + row * second_, second_, next);
    }
  });
}

Cost Concat::cost(const StepContext& context) const {
  return {.activation_bytes = 8 * static_cast<double>(context.rows) * static_cast<double>(first_ + second_)};
}

}  // namespace millrace
