#include "ops/math.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "ops/isa.h"
#include "runtime/float_mode.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/tiers.h"

namespace millrace {

using LanesExpFn = void(const float* x, float* y, std::int64_t count) noexcept;
MILLRACE_DECLARE_TIERS(LanesExpFn, lanes_exp)

namespace scalar {

void lanes_exp(const float* x, float* y, std::int64_t count) noexcept {
  for (std::int64_t i = 0; i < count; ++i) y[i] = exp_f32(x[i]);
}

}  // namespace scalar

namespace {

constexpr Kernel<LanesExpFn> exp_kernel = {
    "exp", {scalar::lanes_exp, MILLRACE_AVX2(lanes_exp), MILLRACE_AVX512(lanes_exp), nullptr, nullptr}};

constexpr float inf = std::numeric_limits<float>::infinity();

// Every 797th float of the range where the accuracy is promised: about 2.8 million, denormals included.
std::vector<float> sweep(float low, float high) {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 0x80000000u; bits += 797)
    for (float value : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)})
      if (value >= low && value <= high) values.push_back(value);
  return values;
}

double ulp_of(double value) {
  return std::ldexp(1.0, std::ilogb(value) - 23);
}

TEST(Math, ExpIsWithinOneAndAHalfUlp) {
  const FloatMode mode;
  double worst = 0;
  float at = 0;
  for (float x : sweep(-87.3f, 88.3f)) {
    const double want = std::exp(double{x}), error = std::abs(double{exp_f32(x)} - want) / ulp_of(want);
    if (error > worst) worst = error, at = x;
  }
  EXPECT_LE(worst, 1.5) << "at " << at;
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST(Math, ExpSaturatesAndKeepsNaN) {
  const FloatMode mode;
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
  EXPECT_EQ(exp_f32(-0.0f), 1.0f);
  EXPECT_EQ(exp_f32(inf), exp_f32(88.376f));
  EXPECT_EQ(exp_f32(3e38f), exp_f32(88.376f));
  EXPECT_TRUE(std::isfinite(exp_f32(inf)));
  EXPECT_EQ(exp_f32(-inf), exp_f32(-87.336f));
  EXPECT_GE(exp_f32(-inf), std::numeric_limits<float>::min());
  EXPECT_TRUE(std::isnan(exp_f32(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Math, SigmoidLimits) {
  const FloatMode mode;
  EXPECT_EQ(sigmoid_f32(0.0f), 0.5f);
  EXPECT_EQ(sigmoid_f32(inf), 1.0f);
  EXPECT_EQ(sigmoid_f32(-inf), 0.0f);
  EXPECT_TRUE(std::isnan(sigmoid_f32(std::numeric_limits<float>::quiet_NaN())));
}

// The sweep covers every exponent, both infinities and NaNs of many payloads and signs.
TEST(Math, LanesExpHasTheBitsOfTheScalarOne) {
  const FloatMode mode;
  auto x = sweep(-inf, inf);
  for (std::uint32_t bits = 0x7f800000u; bits < 0x80000000u; bits += 65521)
    for (std::uint32_t sign : {0u, 0x80000000u}) x.push_back(std::bit_cast<float>(bits | sign));
  for (float edge : {-87.336f, 88.376f})
    for (float away : {-inf, inf}) x.insert(x.end(), {edge, std::nextafter(edge, away)});
  std::vector<float> want(x.size()), got(x.size());
  const auto count = static_cast<std::int64_t>(x.size());
  exp_kernel.at(Isa::scalar)(x.data(), want.data(), count);
  for (Isa isa : test::present_tiers()) {
    exp_kernel.at(isa)(x.data(), got.data(), count);
    test::expect_same_bits(got, want, name_of(isa).data());
  }
}

}  // namespace
}  // namespace millrace
