// The amx tier: on the processor's tiles in ops_tests, on emulated ones in tiles_tests.
#include "ops/linear_tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/expert_mlp.h"
#include "ops/linear.h"
#include "ops/swiglu.h"
#include "runtime/buffer.h"
#include "runtime/float_mode.h"
#include "tests/oracle/linear.h"
#include "tests/support/random.h"
#include "tests/support/run_linear.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;
using test::run_linear;

class LinearTiles : public testing::Test {
 protected:
  void SetUp() override {
    if (!isa_supported(Isa::amx)) GTEST_SKIP() << "this machine has no amx tier";
  }
};

Linear in_tiles(const Tensor& weight) {
  return Linear(weight, test::computing(Compute::bf16_tiles));
}

// Sums of a step: even and odd, each a chain from zero; a product of two bf16 is exact in double.
float step_sum(const Bfloat16* x, const Bfloat16* w) {
  float sums[2] = {};
  for (int p = 0; p < 32; ++p) {
    const double product = double{bf16_to_f32(x[p])} * double{bf16_to_f32(w[p])};
    sums[p % 2] = static_cast<float>(product + double{sums[p % 2]});
  }
  return sums[0] + sums[1];
}

// What the order contract says, of bf16 values of the weights.
Floats by_contract(const Floats& x, const Floats& w, std::int64_t inputs) {
  const FloatMode mode;
  const std::int64_t rows = std::ssize(x) / inputs, outputs = std::ssize(w) / inputs, padded = padded_inputs(inputs);
  const auto pack = [&](const Floats& values, std::int64_t count) {
    std::vector<Bfloat16> packed(static_cast<std::size_t>(count * padded));
    pack_bf16_kernel.at(Isa::scalar)(values.data(), count, inputs, packed.data());
    return packed;
  };
  const auto packed_x = pack(x, rows), packed_w = pack(w, outputs);
  Floats y;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t o = 0; o < outputs; ++o) {
      float sum = 0;
      for (std::int64_t p = 0; p < padded; p += 32)
        sum += step_sum(packed_x.data() + row * padded + p, packed_w.data() + o * padded + p);
      y.push_back(sum);
    }
  return y;
}

// Chains of 16 steps from zero and their sum, then one addition for each 32 elements.
double tolerance(std::int64_t inputs) {
  return (static_cast<double>(padded_inputs(inputs)) / 32 + 18) * test::f32_unit;
}

TEST_F(LinearTiles, MatchesTheOracleAndTheContract) {
  test::Random random(1);
  for (std::int64_t inputs : {1, 7, 64, 65, 128, 200, 1096})
    for (std::int64_t outputs : {1, 15, 16, 17, 45}) {
      const std::int64_t rows = 3;
      const Floats x = random.normals(rows * inputs), w = test::rounded_to_bf16(random.normals(outputs * inputs, 0.1f));
      const auto w16 = test::to_bf16(w);
      const test::Fp8Weight w8(random, outputs, inputs);
      const Floats values = test::rounded_to_bf16(w8.values()), rounded = test::rounded_to_bf16(x);
      const Floats y16 =
          run_linear(Isa::amx, in_tiles(test::matrix(Dtype::bf16, w16.data(), outputs, inputs)), x, rows, outputs);
      const Floats y8 = run_linear(Isa::amx, in_tiles(w8.tensor()), x, rows, outputs);
      test::expect_close(y16, oracle::linear(rounded, w, {}, inputs), tolerance(inputs), "bf16");
      test::expect_close(y8, oracle::linear(rounded, values, {}, inputs), tolerance(inputs), "fp8");
      test::expect_same_bits(y16, by_contract(x, w, inputs), "bf16");
      test::expect_same_bits(y8, by_contract(x, values, inputs), "fp8");
    }
}

// Scales that tables cannot represent, grids that begin anywhere, marked small codes.
TEST_F(LinearTiles, Fp8OfEveryKind) {
  test::Random random(2);
  const std::int64_t inputs = 1300, rows = 2;
  for (auto [outputs, segment, skipped] : {std::tuple(18, 6, 125), {130, 130, 0}, {40, 20, 115}, {3, 1, 0}})
    for (bool unusual : {false, true}) {
      test::Fp8Weight w8(random, outputs, inputs, segment, skipped);
      for (std::uint8_t& code : w8.codes())
        if ((code & 0x78) == 0 && random.below(300) != 0) code |= 0x20;
      for (std::size_t i = 0; unusual && i < w8.scales().size(); i += 3)
        w8.scales()[i] = std::vector<float>{0.0f, 0x1p-118f, 0x1p112f, -0.01f}[i / 3 % 4];
      const Floats x = random.normals(rows * inputs);
      const Floats want = by_contract(x, test::rounded_to_bf16(w8.values()), inputs);
      test::expect_same_bits(run_linear(Isa::amx, in_tiles(w8.tensor()), x, rows, outputs), want, "plain");
      w8.mark_small_codes();
      test::expect_same_bits(run_linear(Isa::amx, in_tiles(w8.tensor()), x, rows, outputs, 3), want, "marked");
    }
}

TEST_F(LinearTiles, Mxfp4) {
  test::Random random(3);
  for (std::int64_t inputs : {32, 160, 2048 + 32}) {
    const std::int64_t outputs = 37, rows = 2;
    const test::Mxfp4Weight w4(random, outputs, inputs);
    const Floats x = random.normals(rows * inputs);
    test::expect_same_bits(run_linear(Isa::amx, in_tiles(w4.tensor()), x, rows, outputs),
                           by_contract(x, w4.values(), inputs), "mxfp4");
  }
}

// Whatever else is in the call: a few rows or many, one thread or several, tasks of any outputs.
TEST_F(LinearTiles, ARowGivesTheSameBitsInAnyCompany) {
  test::Random random(4);
  for (auto [inputs, outputs] : {std::pair(40, 49), {640, 131}, {4096 + 200, 33}, {16384 + 72, 18}}) {
    const std::int64_t most = inputs > 16384 ? 67 : 100;  // more than fit the cache at a time
    const test::Fp8Weight w8(random, outputs, inputs);
    const Linear linear = in_tiles(w8.tensor());
    const Floats x = random.normals(most * inputs);
    const Floats want = by_contract(x, test::rounded_to_bf16(w8.values()), inputs);
    std::vector<std::int64_t> counts = {18, 31, 32, 33, 47, 64, most};
    for (std::int64_t rows = 1; rows <= 17; ++rows) counts.push_back(rows);
    for (std::int64_t rows : counts)
      test::expect_same_bits(run_linear(Isa::amx, linear, x, rows, outputs, rows % 3 == 0 ? 1 : 3),
                             std::span(want).first(static_cast<std::size_t>(rows * outputs)), "rows");
  }
}

TEST_F(LinearTiles, ManyRowsOfFewInputs) {
  test::Random random(5);
  const std::int64_t inputs = 96, outputs = 20, rows = 1100;
  const Floats x = random.normals(rows * inputs), w = test::rounded_to_bf16(random.normals(outputs * inputs));
  const auto w16 = test::to_bf16(w);
  const Linear linear = in_tiles(test::matrix(Dtype::bf16, w16.data(), outputs, inputs));
  test::expect_same_bits(run_linear(Isa::amx, linear, x, rows, outputs, 2), by_contract(x, w, inputs), "rows");
}

TEST_F(LinearTiles, WritesItsOutputsOnly) {
  const FloatMode mode;
  const test::WithIsa with(Isa::amx);
  test::Random random(6);
  const std::int64_t inputs = 260, outputs = 60, stride = 71;
  const test::Fp8Weight w8(random, outputs, inputs);
  Buffer scratch(linear_scratch_bytes(inputs), "scratch");
  for (std::int64_t rows : {1, 5, 40}) {
    const Floats x = random.normals(rows * inputs);
    Floats all(static_cast<std::size_t>(rows * outputs));
    Buffer packed(packed_bytes(rows, inputs), "tiles");
    pack_rows(Compute::bf16_tiles, x.data(), rows, inputs, packed.data());
    const Floats want = by_contract(x, test::rounded_to_bf16(w8.values()), inputs);
    for (auto [begin, end] : {std::pair<std::int64_t, std::int64_t>(0, 60), {3, 4}, {5, 21}, {7, 40}, {9, 58}}) {
      Floats y(static_cast<std::size_t>(rows * stride), 7.0f);
      linear_tiles_kernel({.weight = linear_weight(w8.tensor(), Compute::bf16_tiles),
                           .x = packed.data(),
                           .x_rows = nullptr,
                           .rows = rows,
                           .y = y.data(),
                           .y_stride = stride,
                           .begin = begin,
                           .end = end,
                           .scratch = scratch.data()});
      for (std::int64_t i = 0; i < rows * stride; ++i) {
        const std::int64_t o = i % stride;
        const bool written = o >= begin && o < end;
        ASSERT_EQ(y[static_cast<std::size_t>(i)],
                  written ? want[static_cast<std::size_t>(i / stride * outputs + o)] : 7.0f)
            << rows << " rows, output " << o;
      }
    }
  }
}

TEST_F(LinearTiles, DenormalsCountAsZero) {
  test::Random random(7);
  const std::int64_t inputs = 136, outputs = 20, rows = 5;
  for (float size : {1e-18f, 1e-20f, 1e-36f, 1e-39f}) {
    const Floats x = random.normals(rows * inputs, size), w = random.normals(outputs * inputs, 1e-20f);
    const auto w16 = test::to_bf16(w);
    const Linear linear = in_tiles(test::matrix(Dtype::bf16, w16.data(), outputs, inputs));
    test::expect_same_bits(run_linear(Isa::amx, linear, x, rows, outputs),
                           by_contract(x, test::rounded_to_bf16(w), inputs), "denormal");
  }
}

TEST_F(LinearTiles, SpecialRowsStayInTheirRow) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  test::Random random(8);
  const std::int64_t inputs = 72, outputs = 20, rows = 19;
  const test::Fp8Weight w8(random, outputs, inputs);
  const Linear linear = in_tiles(w8.tensor());
  const Floats clean = random.normals(rows * inputs);
  Floats x = clean;
  x[2 * 72 + 5] = nan;
  x[17 * 72 + 71] = inf;
  const Floats want = run_linear(Isa::amx, linear, clean, rows, outputs);
  const Floats y = run_linear(Isa::amx, linear, x, rows, outputs);
  test::expect_special_rows(y, want, outputs, 2, 17);
}

TEST_F(LinearTiles, PackedInPartsAndFromChosenRows) {
  const test::WithIsa with(Isa::amx);
  test::Random random(9);
  const std::int64_t inputs = 300, stride = 310;
  const Floats x = random.normals(30 * stride);
  std::vector<std::int32_t> chosen;
  for (int i = 0; i < 21; ++i) chosen.push_back(static_cast<std::int32_t>(random.below(30)));
  for (std::int64_t rows : {1, 2, 16, 21}) {
    Floats dense;
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto at = x.begin() + chosen[static_cast<std::size_t>(row)] * stride;
      dense.insert(dense.end(), at, at + inputs);
    }
    std::vector<Bfloat16> want(packed_bytes(rows, inputs) / 2), got(want.size(), 1);
    pack_rows(Compute::bf16_tiles, dense.data(), rows, inputs, reinterpret_cast<std::byte*>(want.data()));
    for (auto [begin, end] : {std::pair<std::int64_t, std::int64_t>(128, 256), {256, 300}, {0, 128}})
      pack_columns(Compute::bf16_tiles, x.data() + begin, stride, chosen.data(), rows, inputs, begin, end,
                   reinterpret_cast<std::byte*>(got.data()));
    EXPECT_EQ(got, want) << rows << " rows";
    if (rows > 1) continue;
    pack_bf16_kernel.at(Isa::scalar)(dense.data(), 1, inputs, want.data());
    EXPECT_EQ(got, want) << "a single row is a packed row";
  }
}

TEST_F(LinearTiles, OtherComputesKeepTheOrderOfTheTiersBelow) {
  test::Random random(10);
  const std::int64_t inputs = 1000, outputs = 40, rows = 20;
  const test::Fp8Weight w8(random, outputs, inputs);
  const Floats x = random.normals(rows * inputs);
  for (Compute compute : {Compute::bf16, Compute::f32, Compute::w8a8}) {
    const Linear linear(w8.tensor(), test::computing(compute));
    test::expect_same_bits(run_linear(Isa::amx, linear, x, rows, outputs),
                           run_linear(Isa::scalar, linear, x, rows, outputs), "amx");
  }
}

// Below the amx tier it is Compute::bf16.
TEST(LinearTilesElsewhere, IsBf16) {
  test::Random random(11);
  const std::int64_t inputs = 200, outputs = 20, rows = 20;
  const test::Fp8Weight w8(random, outputs, inputs);
  const Floats x = random.normals(rows * inputs);
  const Floats want = run_linear(Isa::scalar, Linear(w8.tensor(), {}), x, rows, outputs);
  for (Isa isa : test::present_tiers())
    if (isa != Isa::amx)
      test::expect_same_bits(run_linear(isa, in_tiles(w8.tensor()), x, rows, outputs), want, name_of(isa).data());
}

// Experts of one layer, all there.
class Experts final : public ExpertSource {
 public:
  Experts(test::Random& random, std::int64_t count, std::int64_t hidden, std::int64_t width) {
    for (std::int64_t i = 0; i < 3 * count; ++i)
      weights_.emplace_back(random, i % 3 == 2 ? hidden : width, i % 3 == 2 ? width : hidden);
  }
  ExpertWeights weights(int expert) const {
    const auto* first = weights_.data() + 3 * expert;
    return {first[0].tensor(), first[1].tensor(), first[2].tensor()};
  }
  void demand(const ExpertDemand&) override {}
  std::uint64_t expert_bytes(int) const override { return 1; }
  std::optional<ExpertLease> try_acquire(int layer, int expert) override { return acquire(layer, expert); }
  ExpertLease acquire(int layer, int expert) override { return ExpertLease(*this, layer, expert, weights(expert)); }

 private:
  void release(int, int) noexcept override {}
  std::vector<test::Fp8Weight> weights_;
};

// One row from single operators, expert by expert.
Floats composed(const Experts& source, const float* row, std::int64_t hidden, std::span<const std::int32_t> ids) {
  Floats out(static_cast<std::size_t>(hidden)), x(row, row + hidden);
  for (std::int32_t id : ids) {
    const ExpertWeights weights = source.weights(id);
    const std::int64_t width = weights.gate.dim(0);
    Floats t = run_linear(Isa::amx, in_tiles(weights.gate), x, 1, width);
    const Floats up = run_linear(Isa::amx, in_tiles(weights.up), x, 1, width);
    {
      const FloatMode mode;
      swiglu_kernel.best()(t.data(), up.data(), t.data(), width, Rounding::none);
    }
    const Floats y = run_linear(Isa::amx, in_tiles(weights.down), t, 1, hidden);
    for (std::size_t e = 0; e < out.size(); ++e) out[e] = std::fma(0.25f, y[e], out[e]);
  }
  return out;
}

TEST_F(LinearTiles, ExpertsGiveTheBitsOfSingleOperators) {
  test::Random random(12);
  const std::int64_t hidden = 1160, width = 136, experts = 7, top_k = 3;
  Experts source(random, experts, hidden, width);
  const ExpertMlp op(
      0, source,
      {.hidden = hidden, .width = width, .top_k = top_k, .experts = experts, .compute = Compute::bf16_tiles});
  for (std::int64_t rows : {1, 2, 9, 300}) {  // 300 rows take several waves
    const Floats x = random.normals(rows * hidden), weights(static_cast<std::size_t>(rows * top_k), 0.25f);
    std::vector<std::int32_t> ids;
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto first = static_cast<std::int32_t>(random.below(experts - 2));
      ids.insert(ids.end(), {first, first + 1, static_cast<std::int32_t>(experts - 1)});
    }
    const test::WithIsa with(Isa::amx);
    Floats y[2];
    for (int i : {0, 1}) {
      y[i].assign(x.size(), std::numeric_limits<float>::quiet_NaN());
      test::run_op(op, rows, {x.data(), ids.data(), weights.data()}, {y[i].data()}, 1 + 2 * i);
    }
    EXPECT_EQ(y[0], y[1]) << "threads";
    for (std::int64_t row = 0; row<rows; row += rows> 20 ? 71 : 1)
      test::expect_same_bits(std::span(y[0]).subspan(static_cast<std::size_t>(row * hidden), 1160),
                             composed(source, x.data() + row * hidden, hidden,
                                      std::span(ids).subspan(static_cast<std::size_t>(row * top_k), 3)),
                             "row");
  }
}

}  // namespace
}  // namespace millrace
