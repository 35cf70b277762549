#include "ops/swiglu.h"

#include <gtest/gtest.h>

#include <limits>

#include "runtime/error.h"
#include "tests/oracle/swiglu.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> run(Isa isa, const std::vector<float>& gate, const std::vector<float>& up, std::int64_t rows,
                       Rounding rounding, int threads = 1) {
  const test::WithIsa with(isa);
  std::vector<float> out(gate.size());
  const auto width = static_cast<std::int64_t>(gate.size()) / rows;
  test::run_op(SwiGlu(width, rounding), rows, {gate.data(), up.data()}, {out.data()}, threads);
  return out;
}

// e^-a is within 1.5 ulp, 3 units; the sum, the reciprocal and two products round once each.
constexpr double tolerance(double unit) {
  return 7.01 * test::f32_unit + 2.02 * unit;
}

TEST(SwiGlu, MatchesTheOracleOnEveryTier) {
  test::Random random(11);
  for (std::int64_t width : {1, 7, 15, 16, 17, 33, 53, 1537}) {
    const auto gate = random.normals(3 * width, 5), up = random.normals(3 * width);
    const auto want = oracle::swiglu(gate, up);
    for (Isa isa : test::present_tiers()) {
      test::expect_close(run(isa, gate, up, 3, Rounding::none), want, tolerance(0), "none");
      test::expect_close(run(isa, gate, up, 3, Rounding::bf16), want, tolerance(test::bf16_unit), "bf16");
    }
  }
}

TEST(SwiGlu, SameBitsOnEveryTierAndThreadCount) {
  test::Random random(12);
  for (std::int64_t width : {5, 16, 999})
    for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
      auto gate = random.normals(29 * width, 30), up = random.normals(29 * width);
      const std::vector<float> special = {0.0f, -0.0f, inf, -inf, nan, 1e-40f, -1e-40f, 3e38f, -3e38f, -87.4f, 88.5f};
      std::copy(special.begin(), special.end(), gate.begin() + 3);
      std::copy(special.rbegin(), special.rend(), up.begin() + 19);
      const auto want = run(Isa::scalar, gate, up, 29, rounding);
      for (Isa isa : test::present_tiers())
        for (int threads : {1, 2, 3, 5})
          test::expect_same_bits(run(isa, gate, up, 29, rounding, threads), want, name_of(isa).data());
    }
}

TEST(SwiGlu, SpecialValues) {
  const std::vector<float> gate = {inf, nan, 0, 200, -200, 1}, up = {2, 2, 5, 3, 3, nan};
  for (Isa isa : test::present_tiers())
    for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
      const auto out = run(isa, gate, up, 1, rounding);
      EXPECT_EQ(out[0], inf);
      EXPECT_TRUE(std::isnan(out[1]));
      EXPECT_EQ(out[2], 0.0f);
      EXPECT_EQ(out[3], 600.0f);
      EXPECT_EQ(out[4], 0.0f);
      EXPECT_TRUE(std::isnan(out[5]));
    }
}

TEST(SwiGlu, TheOutputMayBeAnInput) {
  test::Random random(13);
  const auto gate = random.normals(41), up = random.normals(41);
  for (Isa isa : test::present_tiers()) {
    const auto want = run(isa, gate, up, 1, Rounding::none);
    auto over_gate = gate, over_up = up;
    swiglu_kernel.at(isa)(over_gate.data(), up.data(), over_gate.data(), 41, Rounding::none);
    swiglu_kernel.at(isa)(gate.data(), over_up.data(), over_up.data(), 41, Rounding::none);
    test::expect_same_bits(over_gate, want, "over gate");
    test::expect_same_bits(over_up, want, "over up");
  }
}

TEST(SwiGlu, RefusesAnEmptyRow) {
  EXPECT_THROW(SwiGlu(0, Rounding::none), Error);
}

}  // namespace
}  // namespace millrace
