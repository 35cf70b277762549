// Runs a Linear on one tier.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
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

// Of outputs whose inputs differ from those of `want` in a NaN of one row and an infinity of another.
inline void expect_special_rows(const std::vector<float>& y, const std::vector<float>& want, std::size_t outputs,
                                std::size_t nan_row, std::size_t infinite_row) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i / outputs == nan_row)
      EXPECT_TRUE(std::isnan(y[i]));
    else if (i / outputs == infinite_row)
      EXPECT_FALSE(std::isfinite(y[i]));
    else
      EXPECT_EQ(y[i], want[i]);
  }
}

}  // namespace millrace::test
