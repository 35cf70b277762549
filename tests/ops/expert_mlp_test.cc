#include "ops/expert_mlp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ops/swiglu.h"
#include "runtime/error.h"
#include "runtime/float_mode.h"
#include "runtime/run_inputs.h"
#include "tests/oracle/expert_mlp.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

// FP8 experts in memory; checks that the operator plays by the rules of a source.
class Experts final : public ExpertSource {
 public:
  Experts(test::Random& random, std::int64_t count, std::int64_t hidden, std::int64_t width) {
    for (std::int64_t i = 0; i < count; ++i)
      experts_.push_back({test::Fp8Weight(random, width, hidden),
                          test::Fp8Weight(random, width, hidden),
                          test::Fp8Weight(random, hidden, width),
                          {}});
  }

  void demand(const ExpertDemand& demand) override {
    demanded_.assign(demand.experts.begin(), demand.experts.end());
    EXPECT_EQ(demand.layer, 3);
    acquired_.clear();
  }
  void hint(const ExpertHint& hint) override {
    hinted_.assign(hint.experts.begin(), hint.experts.end());
    EXPECT_EQ(hint.layer, 4);
    EXPECT_TRUE(acquired_.empty());
  }
  std::uint64_t expert_bytes(int) const override { return 1000; }
  std::optional<ExpertLease> try_acquire(int layer, int expert) override {
    if (late_ != nullptr && late_->below(3) > 0) return std::nullopt;
    return acquire(layer, expert);
  }
  ExpertLease acquire(int layer, int expert) override {
    acquired_.push_back(expert);
    most_held_ = std::max(most_held_, ++held_);
    return ExpertLease(*this, layer, expert, weights(expert));
  }

  ExpertWeights weights(int expert) const {
    const Matrices& m = experts_[static_cast<std::size_t>(expert)];
    const Tensor up = m.up.tensor();
    return {m.gate.tensor(), m.bf16_up.empty() ? up : test::matrix(Dtype::bf16, m.bf16_up.data(), up.dim(0), up.dim(1)),
            m.down.tensor()};
  }
  // From now on `up` of every other expert is in BF16.
  void mix_formats() {
    for (std::size_t i = 0; i < experts_.size(); i += 2) experts_[i].bf16_up = test::to_bf16(experts_[i].up.values());
  }
  std::vector<oracle::ExpertValues> values(bool rounded) const {
    std::vector<oracle::ExpertValues> out;
    for (const Matrices& m : experts_) {
      out.push_back({m.gate.values(), m.up.values(), m.down.values()});
      if (!rounded) continue;
      for (auto* matrix : {&out.back().gate, &out.back().up, &out.back().down})
        *matrix = test::rounded_to_bf16(*matrix);
    }
    return out;
  }

  std::vector<std::int32_t> demanded_, acquired_, hinted_;
  int held_ = 0, most_held_ = 0;
  test::Random* late_ = nullptr;  // decides which experts are not there yet

 private:
  struct Matrices {
    test::Fp8Weight gate, up, down;
    std::vector<Bfloat16> bf16_up;
  };
  void release(int, int) noexcept override { --held_; }
  std::vector<Matrices> experts_;
};

struct Case {
  ExpertMlpOptions options;
  std::int64_t rows;
  std::vector<float> x, weights;
  std::vector<std::int32_t> ids;
};

Case make_case(test::Random& random, const ExpertMlpOptions& options, std::int64_t rows) {
  Case c{.options = options, .rows = rows, .x = random.normals(rows * options.hidden), .weights = {}, .ids = {}};
  for (std::int64_t row = 0; row < rows; ++row) {
    std::vector<std::int32_t> chosen;
    while (std::ssize(chosen) < options.top_k) {
      const auto id = static_cast<std::int32_t>(random.below(options.experts));
      if (std::find(chosen.begin(), chosen.end(), id) == chosen.end()) chosen.push_back(id);
    }
    std::sort(chosen.begin(), chosen.end());
    c.ids.insert(c.ids.end(), chosen.begin(), chosen.end());
    for (std::int64_t k = 0; k < options.top_k; ++k) c.weights.push_back(random.uniform(0.01f, 0.5f));
  }
  return c;
}

std::vector<float> run(Isa isa, Experts& source, const Case& c, int threads = 1, const Batch& batch = {}) {
  const test::WithIsa with(isa);
  std::vector<float> y(c.x.size(), std::numeric_limits<float>::quiet_NaN());
  test::run_op(ExpertMlp(3, source, c.options), c.rows, {c.x.data(), c.ids.data(), c.weights.data()}, {y.data()},
               threads, batch);
  EXPECT_EQ(source.held_, 0);
  return y;
}

Case row_of(const Case& c, std::int64_t row) {
  const std::int64_t hidden = c.options.hidden, k = c.options.top_k;
  return {.options = c.options,
          .rows = 1,
          .x = {c.x.begin() + row * hidden, c.x.begin() + (row + 1) * hidden},
          .weights = {c.weights.begin() + row * k, c.weights.begin() + (row + 1) * k},
          .ids = {c.ids.begin() + row * k, c.ids.begin() + (row + 1) * k}};
}

std::vector<float> multiply(const Tensor& weight, const ExpertMlpOptions& options, const std::vector<float>& x) {
  LinearOptions linear;
  linear.compute = options.compute;
  if (weight.dtype() == Dtype::f8_e4m3) linear.compute = options.fp8_compute.value_or(options.compute);
  linear.product = options.rounding;
  std::vector<float> y(static_cast<std::size_t>(weight.dim(0)));
  test::run_op(Linear(weight, linear), 1, {x.data()}, {y.data()});
  return y;
}

// The same from single operators, expert by expert.
std::vector<float> composed(const Experts& source, const Case& row) {
  const test::WithIsa with(Isa::scalar);
  std::vector<float> out(row.x.size());
  for (std::size_t k = 0; k < row.ids.size(); ++k) {
    const ExpertWeights weights = source.weights(row.ids[k]);
    auto t = multiply(weights.gate, row.options, row.x);
    const auto up = multiply(weights.up, row.options, row.x);
    {
      const FloatMode mode;
      swiglu_kernel.best()(t.data(), up.data(), t.data(), std::ssize(t), row.options.rounding);
    }
    const auto y = multiply(weights.down, row.options, t);
    for (std::size_t e = 0; e < out.size(); ++e) out[e] = std::fma(row.weights[k], y[e], out[e]);
  }
  return row.options.rounding == Rounding::bf16 ? test::rounded_to_bf16(out) : out;
}

ExpertMlpOptions small(Compute compute, Rounding rounding) {
  return {.hidden = 200, .width = 136, .top_k = 4, .experts = 24, .compute = compute, .rounding = rounding};
}

// What the next layer may choose is passed on, by the sum of its weights, or by ids where it is most of the layer; the
// result stays the same.
TEST(ExpertMlp, HintsGoToTheSource) {
  test::Random random(9);
  Experts source(random, 24, 200, 136);
  const Case c = make_case(random, small(Compute::bf16, Rounding::none), 2);
  const auto want = run(Isa::scalar, source, c);
  EXPECT_TRUE(source.hinted_.empty());
  const auto hinted = [&](const Case& of, const std::vector<std::int32_t>& ids, const std::vector<float>& weights) {
    std::vector<float> y(of.x.size());
    source.acquired_.clear();
    test::run_op(ExpertMlp(3, source, of.options), of.rows,
                 {of.x.data(), of.ids.data(), of.weights.data(), ids.data(), weights.data()}, {y.data()});
    return y;
  };
  EXPECT_EQ(hinted(c, {0, 3, 5, 7, 3, 5, 8, 9}, {.1f, .2f, .3f, .5f, .4f, .25f, .05f, .9f}), want);
  EXPECT_EQ(source.hinted_, (std::vector<std::int32_t>{9, 3, 5, 7, 0, 8}));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(hinted(c, {0, 3, 5, 7, 3, 5, 8, 9}, {nan, nan, nan, nan, .4f, .25f, .05f, .9f}), want);
  EXPECT_EQ(source.hinted_, (std::vector<std::int32_t>{9, 8}));
  test::error_of(Errc::bad_argument, [&] { hinted(c, {0, 3, 5, 24, 3, 5, 8, 9}, std::vector<float>(8, 1)); });

  const Case many = make_case(random, small(Compute::bf16, Rounding::none), 40);
  hinted(many, many.ids, many.weights);
  EXPECT_TRUE(std::is_sorted(source.hinted_.begin(), source.hinted_.end()));
  EXPECT_EQ(source.hinted_.size(), 24u);
}

TEST(ExpertMlp, MatchesTheOracle) {
  test::Random random(1);
  Experts source(random, 24, 200, 136);
  for (Compute compute : {Compute::bf16, Compute::f32}) {
    const bool bf16 = compute == Compute::bf16;
    const auto experts = source.values(bf16);
    const Case c = make_case(random, small(compute, Rounding::none), 5);
    // Errors of a and b of at most 16 roundings of their terms each, a rounding to bf16, and a sum of 136 terms.
    const double tolerance = 64 * test::f32_unit + (bf16 ? 1.2 * test::bf16_unit : 0);
    for (Isa isa : test::present_tiers()) {
      const auto y = run(isa, source, c);
      for (std::int64_t row = 0; row < c.rows; ++row) {
        const Case one = row_of(c, row);
        const auto want =
            oracle::expert_mlp(bf16 ? test::rounded_to_bf16(one.x) : one.x, experts, one.ids, one.weights);
        test::expect_close(std::span(y).subspan(static_cast<std::size_t>(row * 200), 200), want, tolerance, "row");
      }
    }
  }
}

// One call on many rows gives what single operators give row by row.
void expect_composed(Experts& source, const Case& c) {
  std::vector<float> want;
  for (std::int64_t row = 0; row < c.rows; ++row) {
    const auto y = composed(source, row_of(c, row));
    want.insert(want.end(), y.begin(), y.end());
  }
  for (Isa isa : test::present_tiers())
    for (int threads : {1, 3}) test::expect_same_bits(run(isa, source, c, threads), want, name_of(isa).data());
}

TEST(ExpertMlp, SameBitsAsSingleOperatorsForAnyTierRowsAndThreads) {
  test::Random random(2);
  Experts source(random, 24, 200, 136);
  for (Compute compute : {Compute::bf16, Compute::f32})
    for (Rounding rounding : {Rounding::none, Rounding::bf16})
      for (std::int64_t rows : {1, 2, 37}) expect_composed(source, make_case(random, small(compute, rounding), rows));
}

// More rows of an expert than a kernel prepares the inputs of at a time, and several panels of outputs.
TEST(ExpertMlp, SameBitsForGroupsOfRowsOfAnExpert) {
  test::Random random(9);
  const ExpertMlpOptions options{.hidden = 200, .width = 136, .top_k = 2, .experts = 4};
  Experts source(random, 4, 200, 136);
  expect_composed(source, make_case(random, options, 210));
}

TEST(ExpertMlp, QuantizesTheInputsOfMatricesInFp8) {
  test::Random random(7);
  Experts source(random, 24, 200, 136), mixed(random, 24, 200, 136);
  mixed.mix_formats();
  for (Compute quantized : {Compute::w8a8, Compute::w8a8_ue8m0})
    for (Rounding rounding : {Rounding::none, Rounding::bf16})
      for (std::int64_t rows : {1, 9}) {
        ExpertMlpOptions options = small(rounding == Rounding::bf16 ? Compute::bf16 : Compute::f32, rounding);
        options.fp8_compute = quantized;
        expect_composed(source, make_case(random, options, rows));
        expect_composed(mixed, make_case(random, options, rows));
      }
}

// So many rows that the values of all pairs do not fit at once: several waves, limited by pairs and by leases.
TEST(ExpertMlp, ManyRowsInWaves) {
  test::Random random(3);
  const ExpertMlpOptions options{.hidden = 24, .width = 8, .top_k = 8, .experts = 20};
  Experts source(random, 20, 24, 8);
  const Case c = make_case(random, options, 300);
  const auto y = run(active_isa(), source, c, 2);
  for (std::int64_t row = 0; row < c.rows; row += 13)
    test::expect_same_bits(std::span(y).subspan(static_cast<std::size_t>(row * 24), 24),
                           run(Isa::scalar, source, row_of(c, row)), "row");
}

TEST(ExpertMlp, DemandsFirstAndTakesEachExpertOnce) {
  test::Random random(4);
  Experts source(random, 24, 200, 136);
  const Case c = make_case(random, small(Compute::bf16, Rounding::none), 40);
  run(active_isa(), source, c);
  auto wanted = c.ids;
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  EXPECT_EQ(source.demanded_, wanted);
  EXPECT_EQ(source.acquired_, wanted);
  EXPECT_LE(source.most_held_, ExpertMlp::max_leases);
}

// Experts that come late, in any order, change no bit: with room for all results and in waves.
TEST(ExpertMlp, TheOrderOfArrivalDoesNotCount) {
  test::Random random(8), late(9);
  for (const ExpertMlpOptions& options :
       {small(Compute::bf16, Rounding::bf16), ExpertMlpOptions{.hidden = 200, .width = 136, .top_k = 8, .experts = 24}})
    for (std::int64_t rows : {1, 5, 300}) {
      Experts source(random, 24, 200, 136);
      const Case c = make_case(random, options, rows);
      const auto want = run(active_isa(), source, c);
      source.late_ = &late;
      for (int threads : {1, 3}) {
        test::expect_same_bits(run(active_isa(), source, c, threads), want, "late");
        std::sort(source.acquired_.begin(), source.acquired_.end());
        EXPECT_EQ(source.acquired_, source.demanded_);
      }
    }
}

TEST(ExpertMlp, NanStaysInItsRow) {
  test::Random random(5);
  Experts source(random, 24, 200, 136);
  const Case clean = make_case(random, small(Compute::bf16, Rounding::bf16), 6);
  Case c = clean;
  c.x[2 * 200 + 7] = std::numeric_limits<float>::quiet_NaN();
  for (Isa isa : test::present_tiers()) {
    const auto want = run(isa, source, clean), y = run(isa, source, c);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i / 200 == 2)
        EXPECT_TRUE(std::isnan(y[i]));
      else
        EXPECT_EQ(y[i], want[i]);
    }
  }
}

TEST(ExpertMlp, RefusesWrongIdsAndShapes) {
  test::Random random(6);
  Experts source(random, 24, 200, 136);
  const ExpertMlpOptions options = small(Compute::bf16, Rounding::none);
  for (std::vector<std::int32_t> ids :
       {std::vector<std::int32_t>{0, 1, 2, 24}, {-1, 1, 2, 3}, {1, 1, 2, 3}, {4, 3, 5, 6}}) {
    Case c = make_case(random, options, 1);
    c.ids = ids;
    EXPECT_THROW(run(Isa::scalar, source, c), Error);
  }
  Case c = make_case(random, options, 1);
  c.options.width = 128;
  EXPECT_THROW(run(Isa::scalar, source, c), Error);
  EXPECT_EQ(source.held_, 0);
  EXPECT_THROW(ExpertMlp(0, source, ExpertMlpOptions{.hidden = 8, .width = 8, .top_k = 3, .experts = 2}), Error);
}

TEST(ExpertMlp, InactiveRowsGetNoExpert) {
  test::Random random(69);
  for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
    const ExpertMlpOptions options = {.hidden = 40, .width = 24, .top_k = 3, .experts = 9, .rounding = rounding};
    Experts source(random, 9, 40, 24);
    const Case c = make_case(random, options, 7);
    const std::vector<float> all = run(active_isa(), source, c);
    for (const std::vector<std::uint8_t>& inactive :
         {std::vector<std::uint8_t>{1, 0, 1, 0, 1}, {0, 0, 0, 0, 0}, {1, 1, 1, 1, 1}}) {
      const RunInputs inputs{.inactive = inactive.data()};
      Batch batch;
      batch.runs = {{nullptr, 0, 2}, {nullptr, 2, 7, &inputs}};
      const std::vector<float> got = run(active_isa(), source, c, 2, batch);
      for (std::size_t row = 0; row < 7; ++row) {
        const bool active = row < 2 || inactive[row - 2] == 0;
        const auto rows = [row](const std::vector<float>& x) { return std::span(x).subspan(row * 40, 40); };
        test::expect_same_bits(rows(got), active ? rows(all) : std::span<const float>(std::vector<float>(40)), "row");
      }
    }
    const std::vector<std::uint8_t> none(7, 1);
    const RunInputs inputs{.inactive = none.data()};
    Batch batch;
    batch.runs = {{nullptr, 0, 7, &inputs}};
    test::expect_same_bits(run(active_isa(), source, c, 1, batch), std::vector<float>(7 * 40), "no row is active");
    EXPECT_TRUE(source.demanded_.empty());
  }
}

}  // namespace
}  // namespace millrace
