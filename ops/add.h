// Add: y = a + b, element by element: the residual connection. With Rounding::bf16 the sum is rounded to bf16.
#pragma once

#include "ops/isa.h"
#include "runtime/numerics.h"
#include "runtime/op.h"

namespace millrace {

// a, b, y: (count); y may be a or b.
using AddFn = void(const float* a, const float* b, float* y, std::int64_t count, Rounding rounding) noexcept;
extern const Kernel<AddFn> add_kernel;

class Add final : public Op {
 public:
  // Inputs a and b, output: (rows, width). Throws Error(bad_argument) for a width below 1.
  Add(std::int64_t width, Rounding rounding);

  std::string_view kind() const noexcept override { return "add"; }
  void run(const StepContext& context) const override;
  Cost cost(const StepContext& context) const override;

 private:
  std::int64_t width_;
  Rounding rounding_;
};

}  // namespace millrace
