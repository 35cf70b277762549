#include "ops/add.h"

#include <gtest/gtest.h>

#include <limits>

#include "runtime/error.h"
#include "tests/oracle/add.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

std::vector<float> run(Isa isa, const std::vector<float>& a, const std::vector<float>& b, std::int64_t rows,
                       Rounding rounding, int threads = 1) {
  const test::WithIsa with(isa);
  std::vector<float> y(a.size());
  test::run_op(Add(static_cast<std::int64_t>(a.size()) / rows, rounding), rows, {a.data(), b.data()}, {y.data()},
               threads);
  return y;
}

TEST(Add, MatchesTheOracleOnEveryTier) {
  test::Random random(21);
  for (std::int64_t width : {1, 7, 15, 16, 17, 53, 4101}) {
    const auto a = random.normals(3 * width), b = random.normals(3 * width);
    const auto want = oracle::add(a, b);
    for (Isa isa : test::present_tiers()) {
      test::expect_close(run(isa, a, b, 3, Rounding::none), want, test::f32_unit, "none");
      test::expect_close(run(isa, a, b, 3, Rounding::bf16), want, 1.01 * test::f32_unit + test::bf16_unit, "bf16");
    }
  }
}

TEST(Add, SameBitsOnEveryTierAndThreadCount) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  test::Random random(22);
  auto a = random.normals(23 * 3001), b = random.normals(23 * 3001);
  a[0] = inf, b[0] = -inf, a[1] = nan, b[2] = inf, a[17] = 3.4e38f, b[17] = 3.4e38f, a[20] = 1e-40f, b[20] = 0;
  for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
    const auto want = run(Isa::scalar, a, b, 23, rounding);
    EXPECT_TRUE(std::isnan(want[0]) && std::isnan(want[1]));
    EXPECT_EQ(want[2], inf);
    EXPECT_EQ(want[17], inf);
    for (Isa isa : test::present_tiers())
      for (int threads : {1, 2, 3, 5})
        test::expect_same_bits(run(isa, a, b, 23, rounding, threads), want, name_of(isa).data());
  }
}

TEST(Add, TheOutputMayBeAnInput) {
  test::Random random(23);
  const auto a = random.normals(41), b = random.normals(41);
  for (Isa isa : test::present_tiers()) {
    auto over_a = a, over_b = b;
    add_kernel.at(isa)(over_a.data(), b.data(), over_a.data(), 41, Rounding::none);
    add_kernel.at(isa)(a.data(), over_b.data(), over_b.data(), 41, Rounding::none);
    test::expect_same_bits(over_a, run(isa, a, b, 1, Rounding::none), "over a");
    test::expect_same_bits(over_b, over_a, "over b");
  }
}

TEST(Add, RefusesAnEmptyRow) {
  EXPECT_THROW(Add(0, Rounding::none), Error);
}

}  // namespace
}  // namespace millrace
