// RMSNorm: y[e] = w[e] * (x[e] / sqrt(mean(x^2) + epsilon)), the mean over the row.
// Order of sums: lane e mod 16 takes x[e]^2 for ascending e, each a fused multiply-add; lanes are added i with i+8,
// i+4, i+2, i+1. With Rounding::bf16 the normalized value and the product are each rounded to bf16. Source:
// Transformers MiMoV2FlashRMSNorm.
#pragma once

#include <vector>

#include "ops/isa.h"
#include "runtime/numerics.h"
#include "runtime/op.h"

namespace millrace {

// x, y: (rows, hidden), may be the same; weight: (hidden).
using RmsNormFn = void(const float* x, const float* weight, float* y, std::int64_t rows, std::int64_t hidden,
                       float epsilon, Rounding rounding) noexcept;
extern const Kernel<RmsNormFn> rms_norm_kernel;

class RmsNorm final : public Op {
 public:
  // Input 0 and output 0: (rows, weight.size()).
  RmsNorm(std::vector<float> weight, float epsilon, Rounding rounding);

  std::string_view kind() const noexcept override { return "rms_norm"; }
  void run(const StepContext& context) const override;
  Cost cost(const StepContext& context) const override;

 private:
  std::vector<float> weight_;
  float epsilon_;
  Rounding rounding_;
};

}  // namespace millrace
