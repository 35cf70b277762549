#include "ops/rms_norm.h"

#include <cmath>

#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(RmsNormFn, rms_norm)

namespace scalar {

void rms_norm(const float* x, const float* weight, float* y, std::int64_t rows, std::int64_t hidden, float epsilon,
              Rounding rounding) noexcept {
  for (std::int64_t row = 0; row < rows; ++row, x += hidden, y += hidden) {
    float lane[16] = {};
    for (std::int64_t e = 0; e < hidden; ++e) lane[e % 16] = std::fma(x[e], x[e], lane[e % 16]);
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    const float scale = 1.0f / std::sqrt(lane[0] / static_cast<float>(hidden) + epsilon);
    for (std::int64_t e = 0; e < hidden; ++e) {
      const float normalized = x[e] * scale;
      y[e] = rounding == Rounding::bf16 ? round_to_bf16(weight[e] * round_to_bf16(normalized)) : weight[e] * normalized;
    }
  }
}

}  // namespace scalar

const Kernel<RmsNormFn> rms_norm_kernel = {
    "rms_norm",
    {scalar::rms_norm, MILLRACE_AVX2(rms_norm), MILLRACE_AVX512(rms_norm), nullptr, nullptr},
};

RmsNorm::RmsNorm(std::vector<float> weight, float epsilon, Rounding rounding)
    : weight_(std::move(weight)), epsilon_(epsilon), rounding_(rounding) {
  require(!weight_.empty() && epsilon >= 0, Errc::bad_argument, "rms_norm of {} elements with epsilon {}",
          weight_.size(), epsilon);
}

void RmsNorm::run(const StepContext& context) const {
  const auto hidden = static_cast<std::int64_t>(weight_.size());
  const float* x = context.input(0);
  float* y = context.output(0);
  RmsNormFn* kernel = rms_norm_kernel.best();
  context.parallel.for_range(context.rows, 8, [&](std::int64_t begin, std::int64_t end, int) {
    kernel(x + begin * hidden, weight_.data(), y + begin * hidden, end - begin, hidden, epsilon_, rounding_);
  });
}

Cost RmsNorm::cost(const StepContext& context) const {
  const auto width = static_cast<double>(weight_.size()), elements = static_cast<double>(context.rows) * width;
  return {.weight_bytes = 4 * width, .activation_bytes = 8 * elements, .flops = 4 * elements};
}

}  // namespace millrace
