#include "ops/sketched_linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/oracle/sketched_linear.h"
#include "tests/support/errors.h"
#include "tests/support/run_op.h"
#include "tests/support/sketched_weight.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

struct Shape {
  std::int64_t outputs, inputs;
};
// Around blocks of 64 outputs, words of 64 inputs and the tasks that threads share.
constexpr Shape shapes[] = {{1, 1}, {5, 63}, {64, 64}, {65, 65}, {200, 127}, {4097, 128}, {2100, 197}};

std::vector<float> run(Isa isa, const test::SketchedWeight& weight, const std::vector<float>& x, std::int64_t exact,
                       Compute compute = Compute::bf16, Rounding rounding = Rounding::none, int threads = 1) {
  const test::WithIsa with(isa);
  const std::int64_t rows = std::ssize(x) / weight.tensor.dim(1);
  std::vector<float> y(static_cast<std::size_t>(rows * weight.tensor.dim(0)));
  test::run_op(SketchedLinear(weight.tensor, weight.sketch, exact, compute, rounding), rows, {x.data()}, {y.data()},
               threads);
  return y;
}

std::vector<float> product(const test::SketchedWeight& weight, const std::vector<float>& x,
                           LinearOptions options = {}) {
  std::vector<float> y(static_cast<std::size_t>(std::ssize(x) / weight.tensor.dim(1) * weight.tensor.dim(0)));
  test::run_op(Linear(weight.tensor, std::move(options)), std::ssize(x) / weight.tensor.dim(1), {x.data()}, {y.data()});
  return y;
}

TEST(SketchedLinear, EstimatesAreThoseOfTheOracleOnEveryTier) {
  test::Random random(1);
  for (const auto& [outputs, inputs] : shapes) {
    const test::SketchedWeight weight(random, outputs, inputs);
    const auto x = random.normals(inputs);
    const auto want = oracle::sketched_linear(x, weight.sketch);
    float most = 0;
    for (std::int64_t e = 0; e < inputs; ++e)
      most = std::max(most, std::abs(weight.sketch.spreads[e] * x[static_cast<std::size_t>(e)]));
    for (Isa isa : test::present_tiers()) {
      const auto got = run(isa, weight, x, 1), exact = product(weight, x);
      std::int64_t other = 0;
      for (std::size_t o = 0; o < got.size(); ++o) {
        if (got[o] == exact[o] && ++other <= 1) continue;
        // Each integer is off by half a step at most; the first sum has inputs / 16 roundings, a few more follow.
        const double steps = 0.5 * double{weight.sketch.scales[o]} * double{most} / 127 * static_cast<double>(inputs);
        ASSERT_NEAR(got[o], want[o].value,
                    1.01 * steps + (static_cast<double>(inputs) / 16 + 12) * test::f32_unit * want[o].magnitude)
            << name_of(isa) << " " << outputs << " x " << inputs << " at " << o;
      }
    }
  }
}

TEST(SketchedLinear, SameBitsOnEveryTierAndThreadCount) {
  test::Random random(2);
  for (const auto& [outputs, inputs] : shapes) {
    const test::SketchedWeight weight(random, outputs, inputs);
    for (Compute compute : {Compute::bf16, Compute::f32})
      for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
        const auto x = random.normals(3 * inputs);
        const auto want = run(Isa::scalar, weight, x, 20, compute, rounding);
        for (Isa isa : test::present_tiers())
          for (int threads : {1, 2, 3})
            test::expect_same_bits(run(isa, weight, x, 20, compute, rounding, threads), want, name_of(isa).data());
        const std::vector<float> second(x.begin() + inputs, x.begin() + 2 * inputs);
        test::expect_same_bits(
            run(active_isa(), weight, second, 20, compute, rounding),
            std::span(want).subspan(static_cast<std::size_t>(outputs), static_cast<std::size_t>(outputs)),
            "a row alone");
      }
  }
}

// The outputs that have the bits of the whole product.
std::set<std::size_t> exact_ones(const std::vector<float>& got, const std::vector<float>& exact) {
  std::set<std::size_t> ones;
  for (std::size_t o = 0; o < got.size(); ++o)
    if (got[o] == exact[o]) ones.insert(o);
  return ones;
}

TEST(SketchedLinear, TheLargestEstimatesBecomeExact) {
  test::Random random(3);
  for (const Shape& shape : {Shape{300, 100}, Shape{5000, 130}}) {
    const test::SketchedWeight weight(random, shape.outputs, shape.inputs);
    const auto x = random.normals(shape.inputs), exact = product(weight, x);
    const auto estimates = run(active_isa(), weight, x, 1);
    const std::size_t best = *exact_ones(estimates, exact).begin();
    std::set<std::size_t> before = {best};
    for (std::int64_t count : {2, 7, 63, 64, 65, 200}) {
      const std::set<std::size_t> ones = exact_ones(run(active_isa(), weight, x, count), exact);
      ASSERT_EQ(std::ssize(ones), count);
      EXPECT_TRUE(std::includes(ones.begin(), ones.end(), before.begin(), before.end()));
      float least = std::numeric_limits<float>::infinity(), rest = -least;
      for (std::size_t o = 0; o < exact.size(); ++o)
        if (o != best) ones.contains(o) ? least = std::min(least, estimates[o]) : rest = std::max(rest, estimates[o]);
      EXPECT_GE(least, rest);
      before = ones;
    }
    test::expect_same_bits(run(active_isa(), weight, x, shape.outputs + 5), exact, "all");
    test::expect_same_bits(run(active_isa(), weight, x, shape.outputs, Compute::bf16, Rounding::bf16),
                           product(weight, x, {.output = Rounding::bf16}), "rounded");
    test::expect_same_bits(run(active_isa(), weight, x, shape.outputs, Compute::f32),
                           product(weight, x, {.compute = Compute::f32}), "f32");
  }
}

// What heads are like: rows lean to one side together, inputs have outliers, and one output stands out.
TEST(SketchedLinear, FindsTheLargestOutput) {
  test::Random random(4);
  constexpr std::int64_t outputs = 8192, inputs = 256;
  const test::SketchedWeight weight(random, outputs, inputs, 2);
  int found = 0;
  for (int trial = 0; trial < 50; ++trial) {
    const std::int64_t target = random.below(outputs);
    auto x = random.normals(inputs, 3);
    for (std::int64_t e = 0; e < inputs; ++e)
      x[static_cast<std::size_t>(e)] +=
          bf16_to_f32(weight.values[static_cast<std::size_t>(target * inputs + e)]) - weight.sketch.means[e];
    x[7] *= 20;
    const auto exact = product(weight, x), got = run(active_isa(), weight, x, 128);
    const auto largest = [](const std::vector<float>& y) { return std::max_element(y.begin(), y.end()) - y.begin(); };
    if (largest(exact) == largest(got)) ++found;
  }
  EXPECT_GE(found, 49);
}

TEST(SketchedLinear, OfEqualEstimatesTheFirst) {
  test::Random random(5);
  test::SketchedWeight weight(random, 301, 80);
  for (std::size_t i = 160; i < weight.values.size(); ++i) weight.values[i] = weight.values[80 + i % 80];
  weight.make();
  std::vector<float> x(80);  // leans to row 1 and its likes
  for (std::size_t e = 0; e < 80; ++e)
    x[e] = random.uniform(0.5f, 1) * (bf16_to_f32(weight.values[80 + e]) - bf16_to_f32(weight.values[e]));
  const auto got = run(active_isa(), weight, x, 10), exact = product(weight, x);
  std::set<std::size_t> want;
  for (std::size_t o = 1; o <= 10; ++o) want.insert(o);
  EXPECT_EQ(exact_ones(got, exact), want);
}

TEST(SketchedLinear, SpecialRows) {
  test::Random random(6);
  const test::SketchedWeight weight(random, 200, 70);
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (Isa isa : test::present_tiers()) {
    for (float y : run(isa, weight, std::vector<float>(70), 9)) EXPECT_EQ(y, 0.0f);
    for (float special : {nan, inf, -inf}) {
      auto x = random.normals(70);
      x[33] = special;
      for (float y : run(isa, weight, x, 9)) EXPECT_FALSE(std::isfinite(y));
    }
  }
}

TEST(SketchedLinear, Refuses) {
  test::Random random(7);
  const test::SketchedWeight weight(random, 200, 70), other(random, 200, 71);
  const auto error = [&](const LinearSketch& sketch, std::int64_t exact, Compute compute) {
    return test::error_of(Errc::bad_argument,
                          [&] { SketchedLinear(weight.tensor, sketch, exact, compute, Rounding::none); });
  };
  EXPECT_NE(error(other.sketch, 9, Compute::bf16).find("[200, 71]"), std::string::npos);
  EXPECT_NE(error(weight.sketch, 0, Compute::bf16).find("0 exact"), std::string::npos);
  EXPECT_NE(error(weight.sketch, 9, Compute::bf16_tiles).find("bf16 or f32"), std::string::npos);
}

}  // namespace
}  // namespace millrace
