#include "ops/swiglu.h"

#include "ops/math.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(SwiGluFn, swiglu)

namespace scalar {

void swiglu(const float* gate, const float* up, float* out, std::int64_t count, Rounding rounding) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    const float silu = gate[i] * sigmoid_f32(gate[i]);
    out[i] = rounding == Rounding::bf16 ? round_to_bf16(round_to_bf16(silu) * up[i]) : silu * up[i];
  }
}

}  // namespace scalar

const Kernel<SwiGluFn> swiglu_kernel = {
    "swiglu",
    {scalar::swiglu, MILLRACE_AVX2(swiglu), MILLRACE_AVX512(swiglu), nullptr, nullptr},
};

SwiGlu::SwiGlu(std::int64_t width, Rounding rounding) : width_(width), rounding_(rounding) {
  require(width >= 1, Errc::bad_argument, "swiglu of width {}, expected 1 or more", width);
}

void SwiGlu::run(const StepContext& context) const {
  const float* gate = context.input(0);
  const float* up = context.input(1);
  float* out = context.output(0);
  SwiGluFn* kernel = swiglu_kernel.best();
  context.parallel.for_range(context.rows * width_, 4096, [&](std::int64_t begin, std::int64_t end, int) {
    kernel(gate + begin, up + begin, out + begin, end - begin, rounding_);
  });
}

Cost SwiGlu::cost(const StepContext& context) const {
  const double elements = static_cast<double>(context.rows) * static_cast<double>(width_);
  return {.activation_bytes = 12 * elements, .flops = 24 * elements};
}

}  // namespace millrace
