// Concat: y[row] = [a[row], b[row]]. A copy, bit for bit.
#pragma once

#include "runtime/op.h"

namespace millrace {

class Concat final : public Op {
 public:
  // Input 0: (rows, first), input 1: (rows, second), output 0: (rows, first + second); none may overlap the output.
  // Throws Error(bad_argument) for a width below 1.
  Concat(std::int64_t first, std::int64_t second);

  std::string_view kind() const noexcept override { return "concat"; }
  void run(const StepContext& context) const override;
  Cost cost(const StepContext& context) const override;

 private:
  std::int64_t first_, second_;
};

}  // namespace millrace
