#include "ops/gather_rows.h"

#include <cstring>

#include "runtime/error.h"

namespace millrace {

GatherRows::GatherRows(std::int64_t width) : width_(width) {
  require(width >= 1, Errc::bad_argument, "gather_rows of width {}, expected 1 or more", width);
}

void GatherRows::run(const StepContext& context) const {
  const float* x = context.input(0);
  float* y = context.output(0);
  const auto row_bytes = static_cast<std::size_t>(width_) * sizeof(float);
  context.parallel.for_range(context.rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = context.batch.logits_rows[static_cast<std::size_t>(i)];
      require(row >= 0 && row < context.batch.rows(), Errc::bad_argument,
              "logits are wanted of row {}, but the batch has {} rows", row, context.batch.rows());
      std::memcpy(y + i * width_, x + row * width_, row_bytes);
    }
  });
}

Cost GatherRows::cost(const StepContext& context) const {
  return {.activation_bytes = 8 * static_cast<double>(context.rows) * static_cast<double>(width_)};
}

}  // namespace millrace
