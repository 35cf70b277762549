// SwiGLU: out = silu(gate) * up, silu(a) = a * (1 / (1 + e^-a)), element by element.
// With Rounding::bf16 silu(a) and the product are each rounded to bf16. Source: Transformers MiMoV2FlashMLP (act_fn
// "silu"); a sigmoid below 2^-126 is flushed to zero, so silu of a gate below -87.3 is zero.
#pragma once

#include "ops/isa.h"
#include "runtime/numerics.h"
#include "runtime/op.h"

namespace millrace {

// gate, up, out: (count); out may be gate or up.
using SwiGluFn = void(const float* gate, const float* up, float* out, std::int64_t count, Rounding rounding) noexcept;
extern const Kernel<SwiGluFn> swiglu_kernel;

class SwiGlu final : public Op {
 public:
  // Inputs gate and up, output: (rows, width). Throws Error(bad_argument) for a width below 1.
  SwiGlu(std::int64_t width, Rounding rounding);

  std::string_view kind() const noexcept override { return "swiglu"; }
  void run(const StepContext& context) const override;
  Cost cost(const StepContext& context) const override;

 private:
  std::int64_t width_;
  Rounding rounding_;
};

}  // namespace millrace
