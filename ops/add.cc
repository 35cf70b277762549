#include "ops/add.h"

#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(AddFn, add)

namespace scalar {

void add(const float* a, const float* b, float* y, std::int64_t count, Rounding rounding) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    const float sum = a[i] + b[i];
    y[i] = rounding == Rounding::bf16 ? round_to_bf16(sum) : sum;
  }
}

}  // namespace scalar

const Kernel<AddFn> add_kernel = {
    "add",
    {scalar::add, MILLRACE_AVX2(add), MILLRACE_AVX512(add), nullptr, nullptr},
};

Add::Add(std::int64_t width, Rounding rounding) : width_(width), rounding_(rounding) {
  require(width >= 1, Errc::bad_argument, "add of width {}, expected 1 or more", width);
}

void Add::run(const StepContext& context) const {
  const float* a = context.input(0);
  const float* b = context.input(1);
  float* y = context.output(0);
  AddFn* kernel = add_kernel.best();
  context.parallel.for_range(context.rows * width_, 16384, [&](std::int64_t begin, std::int64_t end, int) {
    kernel(a + begin, b + begin, y + begin, end - begin, rounding_);
  });
}

Cost Add::cost(const StepContext& context) const {
  const double elements = static_cast<double>(context.rows) * static_cast<double>(width_);
  return {.activation_bytes = 12 * elements, .flops = elements};
}

}  // namespace millrace
