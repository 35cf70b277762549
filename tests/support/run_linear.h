// Runs a Linear on one tier.
#pragma once

#include <limits>
#include <vector>

#include "ops/linear.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace::test {

// y, (rows, outputs), of x, (rows, inputs).
inline std::vector<float> run_linear(Isa isa, const Linear& linear, const std::vector<float>& x, std::int64_t rows,
                                     std::int64_t outputs, int threads = 1) {
  const WithIsa with(isa);
  std::vector<float> y(static_cast<std::size_t>(rows * outputs), std::numeric_limits<float>::quiet_NaN());
  run_op(linear, rows, {x.data()}, {y.data()}, threads);
  return y;
}

inline LinearOptions computing(Compute compute) {
  LinearOptions options;
  options.compute = compute;
  return options;
}

}  // namespace millrace::test
