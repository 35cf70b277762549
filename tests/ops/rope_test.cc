#include "ops/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numbers>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "tests/oracle/rope.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

struct Shape {
  std::int64_t heads, dim, rotary;
};
const std::vector<Shape> shapes = {{6, 24, 8}, {3, 36, 12}, {5, 40, 40}, {1, 48, 2}, {2, 192, 64}, {1, 70, 70}};
const std::vector<std::int32_t> positions = {0, 1, 2, 7, 128, 129, 4095, 99999, 100000};

RopeParameters plain(std::int64_t rotary, double theta = 1e4) {
  return {.rotary_dim = rotary, .theta = theta};
}

std::vector<float> run(Isa isa, const Rope& op, const std::vector<float>& x, std::vector<std::int32_t> at,
                       int threads = 1) {
  const test::WithIsa with(isa);
  std::vector<float> y(x.size());
  Batch batch;
  batch.positions = std::move(at);
  test::run_op(op, std::ssize(batch.positions), {x.data()}, {y.data()}, threads, batch);
  return y;
}

std::vector<test::Measured> want(const Shape& shape, const RopeTable& table, const std::vector<float>& x) {
  std::vector<test::Measured> all;
  const auto row = static_cast<std::size_t>(shape.heads * shape.dim);
  for (std::size_t t = 0; t < positions.size(); ++t) {
    std::vector<double> angles;
    for (float frequency : table.inverse_frequencies)
      angles.push_back(double{static_cast<float>(positions[t]) * frequency});
    const auto y = oracle::rope(std::span(x).subspan(t * row, row), static_cast<std::size_t>(shape.dim), angles,
                                double{table.attention_factor});
    all.insert(all.end(), y.begin(), y.end());
  }
  return all;
}

// Roundings on the way to a term: of the cosine, by the factor, the product, the sum; some second-order slack.
TEST(Rope, MatchesTheOracleOnEveryTier) {
  test::Random random(1);
  for (const Shape& shape : shapes) {
    RopeParameters parameters = plain(shape.rotary);
    parameters.attention_factor = 1.25;
    const RopeTable table(parameters);
    const auto x = random.normals(std::ssize(positions) * shape.heads * shape.dim);
    const auto expected = want(shape, table, x);
    for (Isa isa : test::present_tiers()) {
      const Rope fast(table, shape.heads, shape.dim, Rounding::none, Rounding::none);
      test::expect_close(run(isa, fast, x, positions), expected, 4.01 * test::f32_unit, "none");
      const Rope keys(table, shape.heads, shape.dim, Rounding::none, Rounding::bf16);
      test::expect_close(run(isa, keys, x, positions), expected, 1.01 * test::bf16_unit, "keys");
      const Rope hf(table, shape.heads, shape.dim, Rounding::bf16, Rounding::bf16);
      test::expect_close(run(isa, hf, x, positions), expected, 3.05 * test::bf16_unit, "bf16");
    }
  }
}

TEST(Rope, SameBitsOnEveryTierAndThreadCount) {
  test::Random random(2);
  for (const Shape& shape : shapes)
    for (Rounding rounding : {Rounding::none, Rounding::bf16})
      for (Rounding output : {Rounding::none, Rounding::bf16}) {
        const Rope op(RopeTable(plain(shape.rotary)), shape.heads, shape.dim, rounding, output);
        const auto x = random.normals(std::ssize(positions) * shape.heads * shape.dim);
        const auto first = run(Isa::scalar, op, x, positions);
        for (Isa isa : test::present_tiers())
          for (int threads : {1, 2, 3, 5})
            test::expect_same_bits(run(isa, op, x, positions, threads), first, name_of(isa).data());
      }
}

TEST(Rope, RoundsEachStepInHf) {
  const RopeTable table(plain(2));
  const std::vector<float> x = {1.5f, -2.25f, 0.5f};
  const float c = round_to_bf16(std::cos(3.0f)), s = round_to_bf16(std::sin(3.0f));
  const std::vector<float> expected = {round_to_bf16(round_to_bf16(1.5f * c) - round_to_bf16(-2.25f * s)),
                                       round_to_bf16(round_to_bf16(-2.25f * c) + round_to_bf16(1.5f * s)), 0.5f};
  for (Isa isa : test::present_tiers())
    EXPECT_EQ(run(isa, Rope(table, 1, 3, Rounding::bf16, Rounding::none), x, {3}), expected);
}

TEST(Rope, PassesOtherDimensionsAndRoundsThemWithTheOutput) {
  const float third = 1.0f / 3;
  std::vector<float> x(40, third);
  for (Isa isa : test::present_tiers())
    for (Rounding output : {Rounding::none, Rounding::bf16}) {
      const auto y = run(isa, Rope(RopeTable(plain(4)), 1, 40, Rounding::none, output), x, {11});
      for (std::size_t e = 4; e < 40; ++e) EXPECT_EQ(y[e], output == Rounding::none ? third : round_to_bf16(third));
    }
}

TEST(Rope, PreservesTheNormOfEveryPair) {
  test::Random random(3);
  const Shape shape{4, 48, 32};
  const Rope op(RopeTable(plain(shape.rotary, 5e6)), shape.heads, shape.dim, Rounding::none, Rounding::none);
  const auto x = random.normals(std::ssize(positions) * shape.heads * shape.dim);
  const auto y = run(active_isa(), op, x, positions);
  for (std::size_t head = 0; head < x.size(); head += 48)
    for (std::size_t i = head; i < head + 16; ++i) {
      const double before = std::hypot(x[i], x[i + 16]), after = std::hypot(y[i], y[i + 16]);
      // Each result is off by 4 roundings of |a c| + |b s| <= before, and there are two.
      EXPECT_LE(std::abs(after - before), 4.01 * std::numbers::sqrt2 * test::f32_unit * before);
    }
}

TEST(Rope, DotProductsDependOnDistanceAlone) {
  test::Random random(4);
  const std::int64_t dim = 32;
  const RopeTable table(plain(dim));
  const Rope op(table, 1, dim, Rounding::none, Rounding::none);
  const auto q = random.normals(dim), k = random.normals(dim);
  const auto dot = [&](std::int32_t at_q, std::int32_t at_k) {
    const auto turned_q = run(active_isa(), op, q, {at_q}), turned_k = run(active_isa(), op, k, {at_k});
    double sum = 0;
    for (std::size_t e = 0; e < 32; ++e) sum += double{turned_q[e]} * double{turned_k[e]};
    return sum;
  };
  for (std::int32_t shift : {1, 10, 1000}) {
    double bound = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      // Every angle is off by half a unit in its last place, every result by 4 roundings in each of two terms.
      const double angles = double{table.inverse_frequencies[i]} * (2.0 * shift + 14 + 14);
      const double norms = std::hypot(q[i], q[i + 16]) * std::hypot(k[i], k[i + 16]);
      bound += norms * test::f32_unit * (angles + 4 * 8.02);
    }
    EXPECT_LE(std::abs(dot(9 + shift, 5 + shift) - dot(9, 5)), bound) << shift;
  }
}

TEST(RopeTable, Frequencies) {
  for (double theta : {1e4, 5e6}) {
    const RopeTable table(plain(64, theta));
    ASSERT_EQ(table.inverse_frequencies.size(), 32u);
    EXPECT_EQ(table.inverse_frequencies[0], 1.0f);
    for (std::size_t i = 0; i < 32; ++i) {
      const double exact = std::pow(theta, -static_cast<double>(2 * i) / 64);  // 2i/64 is exact in fp32
      EXPECT_LE(std::abs(table.inverse_frequencies[i] - exact), 3 * test::f32_unit * exact) << i;
    }
  }
  RopeParameters linear = plain(8);
  linear.scaling = RopeScaling::linear;
  linear.factor = 4;
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_EQ(RopeTable(linear).inverse_frequencies[i], RopeTable(plain(8)).inverse_frequencies[i] / 4);
}

TEST(RopeTable, YarnKeepsFastPairsAndStretchesSlowOnes) {
  RopeParameters yarn = plain(32);
  yarn.scaling = RopeScaling::yarn;
  yarn.factor = 8;
  yarn.original_positions = 4096;
  const auto scaled = RopeTable(yarn).inverse_frequencies, raw = RopeTable(plain(32)).inverse_frequencies;
  // turn(32) = 5.24, turn(1) = 11.26: pairs up to 5 stay, from 12 on they are divided, between is a straight blend.
  for (std::size_t i = 0; i <= 5; ++i) EXPECT_EQ(scaled[i], raw[i]) << i;
  for (std::size_t i = 12; i < 16; ++i) EXPECT_EQ(scaled[i], raw[i] / 8) << i;
  for (std::size_t i = 6; i < 12; ++i) {
    const double ramp = (static_cast<double>(i) - 5) / 7;
    const double exact = double{raw[i]} * (ramp / 8 + 1 - ramp);
    EXPECT_LE(std::abs(scaled[i] - exact), 5 * test::f32_unit * exact) << i;
  }
}

TEST(Rope, RefusesImpossibleParameters) {
  EXPECT_THROW(RopeTable(plain(0)), Error);
  EXPECT_THROW(RopeTable(plain(7)), Error);
  EXPECT_THROW(RopeTable(plain(-2)), Error);
  EXPECT_THROW(RopeTable(plain(8, 1)), Error);
  EXPECT_THROW(RopeTable(plain(8, std::numeric_limits<double>::quiet_NaN())), Error);
  RopeParameters yarn = plain(8);
  yarn.scaling = RopeScaling::yarn;
  EXPECT_THROW(RopeTable{yarn}, Error);  // no original length
  EXPECT_THROW(Rope(RopeTable(plain(8)), 2, 7, Rounding::none, Rounding::none), Error);
  EXPECT_THROW(Rope(RopeTable(plain(8)), 0, 8, Rounding::none, Rounding::none), Error);
}

TEST(Rope, SpecialValuesStayInTheirPairs) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x(20, 1.0f);
  x[1] = nan;
  x[19] = inf;
  for (Isa isa : test::present_tiers()) {
    const auto y = run(isa, Rope(RopeTable(plain(16)), 1, 20, Rounding::bf16, Rounding::bf16), x, {3});
    for (std::size_t e = 0; e < 19; ++e) EXPECT_EQ(std::isnan(y[e]), e == 1 || e == 9) << e;
    EXPECT_EQ(y[19], inf);
  }
}

}  // namespace
}  // namespace millrace
