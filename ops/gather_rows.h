// GatherRows: y[i] = x[logits_rows[i]]: leaves the rows of the batch that want logits. A copy, bit for bit.
#pragma once

#include "runtime/op.h"

namespace millrace {

class GatherRows final : public Op {
 public:
  // Input 0: (batch rows, width); output 0, in RowSpace::logits: (logits rows, width); they must not overlap.
  // Throws Error(bad_argument) for a width below 1; run() does for an entry of logits_rows outside the batch.
  explicit GatherRows(std::int64_t width);

  std::string_view kind() const noexcept override { return "gather_rows"; }
  void run(const StepContext& context) const override;
  Cost cost(const StepContext& context) const override;

 private:
  std::int64_t width_;
};

}  // namespace millrace
