#include "ops/rms_norm.h"

#include <gtest/gtest.h>

#include "tests/oracle/rms_norm.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

const std::vector<std::int64_t> sizes = {1, 7, 8, 15, 16, 17, 31, 32, 33, 53, 168, 4096, 4101};

std::vector<float> run(Isa isa, const std::vector<float>& x, const std::vector<float>& weight, float epsilon,
                       Rounding rounding, int threads = 1) {
  const test::WithIsa with(isa);
  std::vector<float> y(x.size());
  const auto rows = static_cast<std::int64_t>(x.size() / weight.size());
  test::run_op(RmsNorm(weight, epsilon, rounding), rows, {x.data()}, {y.data()}, threads);
  return y;
}

// The sum of n squares has a relative error of at most (n/16 + 5) roundings, halved by the root; four more follow.
double tolerance(std::int64_t hidden, double unit) {
  return (0.5 * (static_cast<double>(hidden) / 16 + 5) + 4) * test::f32_unit + 2.01 * unit;
}

TEST(RmsNorm, MatchesTheOracleOnEveryTier) {
  test::Random random(1);
  for (std::int64_t hidden : sizes) {
    const auto x = random.normals(3 * hidden), weight = random.normals(hidden);
    const auto want = oracle::rms_norm(x, weight, 1e-5);
    for (Isa isa : test::present_tiers()) {
      test::expect_close(run(isa, x, weight, 1e-5f, Rounding::none), want, tolerance(hidden, 0), "none");
      test::expect_close(run(isa, x, weight, 1e-5f, Rounding::bf16), want, tolerance(hidden, test::bf16_unit), "bf16");
    }
  }
}

TEST(RmsNorm, SameBitsOnEveryTierAndThreadCount) {
  test::Random random(2);
  for (std::int64_t hidden : sizes)
    for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
      const auto x = random.normals(37 * hidden, 1e-3f), weight = random.normals(hidden);
      const auto want = run(Isa::scalar, x, weight, 1e-6f, rounding);
      for (Isa isa : test::present_tiers())
        for (int threads : {1, 2, 3, 5})
          test::expect_same_bits(run(isa, x, weight, 1e-6f, rounding, threads), want, name_of(isa).data());
    }
}

TEST(RmsNorm, SpecialRows) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> weight(20, 1.0f);
  for (Isa isa : test::present_tiers()) {
    std::vector<float> zeros(20), with_nan(20, 1.0f), with_inf(20, 1.0f);
    with_nan[3] = nan;
    with_inf[19] = inf;
    EXPECT_EQ(run(isa, zeros, weight, 1e-5f, Rounding::none), zeros);
    for (float value : run(isa, with_nan, weight, 1e-5f, Rounding::bf16)) EXPECT_TRUE(std::isnan(value));
    const auto y = run(isa, with_inf, weight, 1e-5f, Rounding::none);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_TRUE(std::isnan(y[19]));
  }
}

}  // namespace
}  // namespace millrace
