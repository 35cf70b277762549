#include "ops/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/float_mode.h"
#include "tests/oracle/linear.h"
#include "tests/support/random.h"
#include "tests/support/run_linear.h"
#include "tests/support/tiers.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

const std::vector<std::int64_t> ragged_inputs = {1, 7, 24, 40, 63, 64, 65, 127, 128, 129, 160, 168, 200, 4104};
const std::vector<std::int64_t> row_counts = {2, 3, 4, 5, 7, 8, 16, 17, 33, 64};

using test::computing;
using test::run_linear;

// Sixteen lanes of four accumulators: the longest chain has inputs/64 + 2 steps, then six sums.
double tolerance(std::int64_t inputs, double unit = 0) {
  return (static_cast<double>(inputs) / 64 + 10) * test::f32_unit + 1.01 * unit;
}

TEST(Linear, MatchesTheOracle) {
  test::Random random(1);
  for (std::int64_t inputs : ragged_inputs) {
    const std::int64_t outputs = 19, rows = 3;
    const auto x = random.normals(rows * inputs), w = random.normals(outputs * inputs, 0.02f);
    const auto w16 = test::to_bf16(w);
    test::Fp8Weight w8(random, outputs, inputs);
    const auto rounded = test::rounded_to_bf16(x);
    const auto want16 = oracle::linear(rounded, test::rounded_to_bf16(w), {}, inputs);
    const auto want8 = oracle::linear(rounded, test::rounded_to_bf16(w8.values()), {}, inputs);
    const auto want8_f32 = oracle::linear(x, w8.values(), {}, inputs);
    const auto want32 = oracle::linear(x, w, {}, inputs);
    const Linear bf16(test::matrix(Dtype::bf16, w16.data(), outputs, inputs), {});
    const Linear fp8(w8.tensor(), {});
    const Linear fp8_f32(w8.tensor(), computing(Compute::f32));
    const Linear f32(test::matrix(Dtype::f32, w.data(), outputs, inputs), computing(Compute::f32));
    for (Isa isa : test::present_tiers()) {
      test::expect_close(run_linear(isa, bf16, x, rows, outputs), want16, tolerance(inputs), "bf16");
      test::expect_close(run_linear(isa, fp8, x, rows, outputs), want8, tolerance(inputs), "fp8");
      test::expect_close(run_linear(isa, fp8_f32, x, rows, outputs), want8_f32, tolerance(inputs), "fp8 in fp32");
      test::expect_close(run_linear(isa, f32, x, rows, outputs), want32, tolerance(inputs), "fp32");
    }
  }
}

// The fourth format, BF16 weights in fp32, is bit for bit an F32 weight of the same values.
TEST(Linear, Bf16WeightInFp32) {
  test::Random random(2);
  const std::int64_t inputs = 200, outputs = 21, rows = 5;
  const auto x = random.normals(rows * inputs), w = test::rounded_to_bf16(random.normals(outputs * inputs));
  const auto w16 = test::to_bf16(w);
  const Linear bf16(test::matrix(Dtype::bf16, w16.data(), outputs, inputs), computing(Compute::f32));
  const Linear f32(test::matrix(Dtype::f32, w.data(), outputs, inputs), computing(Compute::f32));
  for (Isa isa : test::present_tiers())
    test::expect_same_bits(run_linear(isa, bf16, x, rows, outputs), run_linear(isa, f32, x, rows, outputs),
                           name_of(isa).data());
}

TEST(Linear, Fp8GivesTheBitsOfTheDequantizedWeight) {
  test::Random random(3);
  for (std::int64_t inputs : ragged_inputs)
    for (auto [segment, skipped] : {std::pair(1, 0), {6, 125}, {130, 0}, {130, 90}, {390, 64}}) {
      const std::int64_t outputs = inputs > 1000 ? segment : 390, rows = 2;
      test::Fp8Weight w8(random, outputs, inputs, segment, skipped);
      const auto w16 = test::to_bf16(w8.values());
      const auto x = random.normals(rows * inputs);
      const Linear fp8(w8.tensor(), {}), bf16(test::matrix(Dtype::bf16, w16.data(), outputs, inputs), {});
      const auto want = run_linear(Isa::scalar, bf16, x, rows, outputs);
      for (Isa isa : test::present_tiers())
        test::expect_same_bits(run_linear(isa, fp8, x, rows, outputs, 3), want, name_of(isa).data());
    }
}

// Marks of where codes of exponent zero are change nothing; they are rare here, so that most blocks have none.
TEST(Linear, Fp8WithMarkedSmallCodes) {
  test::Random random(7);
  for (std::int64_t inputs : {128, 1100, 2304})
    for (std::int64_t rows : {1, 3, 9}) {
      const std::int64_t outputs = 40;
      test::Fp8Weight w8(random, outputs, inputs, 20);
      for (std::uint8_t& code : w8.codes())
        if ((code & 0x78) == 0 && random.below(300) != 0) code |= 0x20;
      const auto x = random.normals(rows * inputs);
      const auto want = run_linear(Isa::scalar, Linear(w8.tensor(), {}), x, rows, outputs);
      w8.mark_small_codes();
      const Linear marked(w8.tensor(), {});
      for (Isa isa : test::present_tiers())
        test::expect_same_bits(run_linear(isa, marked, x, rows, outputs, 3), want, name_of(isa).data());
    }
}

// The two ways of multiplying of a tier that has two, whichever this machine chooses.
TEST(Linear, WidenedKernelsGiveTheSameBits) {
  test::Random random(8);
  const std::int64_t outputs = 37, inputs = 700;
  test::Fp8Weight w8(random, outputs, inputs);
  for (std::int64_t rows : {1, 2, 4, 11}) {
    const auto x = random.normals(rows * inputs);
    std::vector<std::uint16_t> packed(packed_bytes(rows, inputs) / sizeof(std::uint16_t));
    pack_bf16_kernel.best()(x.data(), rows, inputs, packed.data());
    Buffer scratch(linear_scratch_bytes(inputs), "scratch");
    const auto multiply = [&](LinearFn* kernel) {
      const FloatMode mode;
      std::vector<float> y(static_cast<std::size_t>(rows * outputs));
      kernel({.weight = linear_weight(w8.tensor(), Compute::bf16),
              .x = packed.data(),
              .x_rows = nullptr,
              .rows = rows,
              .y = y.data(),
              .y_stride = outputs,
              .begin = 0,
              .end = outputs,
              .scratch = scratch.data()});
      return y;
    };
    const auto want = multiply(linear_bf16_kernel.at(Isa::scalar));
    for (Isa isa : test::present_tiers()) {
      test::expect_same_bits(multiply(linear_bf16_kernel.at(isa)), want, name_of(isa).data());
      test::expect_same_bits(multiply(linear_bf16_widened_kernel.at(isa)), want, name_of(isa).data());
    }
  }
}

// Block scales that a table of bit patterns cannot represent: zero, tiny, huge, negative.
TEST(Linear, Fp8WithUnusualScales) {
  test::Random random(4);
  const std::int64_t inputs = 300, outputs = 150;
  for (float scale : {0.0f, 0x1p-118f, 0x1p-126f, 0x1p112f, -0.01f})
    for (std::int64_t rows : {1, 9}) {
      test::Fp8Weight w8(random, outputs, inputs);
      w8.scales()[1] = scale;
      const auto x = random.normals(rows * inputs);
      const Linear fp8(w8.tensor(), {});
      const auto want = run_linear(Isa::scalar, fp8, x, rows, outputs);
      for (Isa isa : test::present_tiers())
        test::expect_same_bits(run_linear(isa, fp8, x, rows, outputs), want, name_of(isa).data());
    }
}

TEST(Linear, Mxfp4GivesTheBitsOfTheDequantizedWeight) {
  test::Random random(15);
  for (std::int64_t inputs : {32, 64, 96, 128, 160, 2048 + 32})
    for (auto [least, most] : {std::pair(115, 121), {5, 9}, {3, 252}}) {
      const std::int64_t outputs = 37, rows = 2;
      const test::Mxfp4Weight w4(random, outputs, inputs, least, most);
      const auto values = w4.values();
      const auto w16 = test::to_bf16(values);
      const auto x = random.normals(rows * inputs, least < 100 ? 1e-3f : 1);
      const auto want16 =
          run_linear(Isa::scalar, Linear(test::matrix(Dtype::bf16, w16.data(), outputs, inputs), {}), x, rows, outputs);
      const auto want32 = run_linear(
          Isa::scalar, Linear(test::matrix(Dtype::f32, values.data(), outputs, inputs), computing(Compute::f32)), x,
          rows, outputs);
      const Linear bf16(w4.tensor(), {}), f32(w4.tensor(), computing(Compute::f32));
      for (Isa isa : test::present_tiers()) {
        test::expect_same_bits(run_linear(isa, bf16, x, rows, outputs, 3), want16, name_of(isa).data());
        test::expect_same_bits(run_linear(isa, f32, x, rows, outputs, 3), want32, name_of(isa).data());
      }
    }
}

// Any number of rows in one call gives what each row gives by itself.
void expect_single_rows(const Linear& linear, std::int64_t inputs, std::int64_t outputs, std::uint64_t seed) {
  test::Random random(seed);
  const auto x = random.normals(row_counts.back() * inputs);
  std::vector<float> want;
  for (std::int64_t row = 0; row < row_counts.back(); ++row) {
    const auto y =
        run_linear(Isa::scalar, linear, {x.begin() + row * inputs, x.begin() + (row + 1) * inputs}, 1, outputs);
    want.insert(want.end(), y.begin(), y.end());
  }
  for (std::int64_t rows : row_counts)
    for (Isa isa : test::present_tiers())
      for (int threads : {1, 3})
        test::expect_same_bits(run_linear(isa, linear, x, rows, outputs, threads),
                               std::span(want).first(static_cast<std::size_t>(rows * outputs)), name_of(isa).data());
}

TEST(Linear, SameBitsForAnyRowsTiersAndThreads) {
  test::Random random(5);
  for (std::int64_t inputs : {40, 200, 1160})
    for (std::int64_t outputs : {1, 5, 49, 131}) {
      const auto w = random.normals(outputs * inputs, 0.1f);
      const auto w16 = test::to_bf16(w);
      test::Fp8Weight w8(random, outputs, inputs);
      expect_single_rows(Linear(test::matrix(Dtype::bf16, w16.data(), outputs, inputs), {}), inputs, outputs, 6);
      expect_single_rows(Linear(w8.tensor(), {}), inputs, outputs, 7);
      expect_single_rows(Linear(w8.tensor(), computing(Compute::f32)), inputs, outputs, 8);
      expect_single_rows(Linear(test::matrix(Dtype::f32, w.data(), outputs, inputs), computing(Compute::f32)), inputs,
                         outputs, 9);
    }
}

TEST(Linear, SameBitsForAnyRowsTiersAndThreadsInMxfp4) {
  test::Random random(16);
  const std::int64_t inputs = 1184, outputs = 49;
  const test::Mxfp4Weight w4(random, outputs, inputs);
  expect_single_rows(Linear(w4.tensor(), {}), inputs, outputs, 17);
  expect_single_rows(Linear(w4.tensor(), computing(Compute::f32)), inputs, outputs, 18);
}

// The kernels themselves: Linear may prefer another tier's for many rows.
TEST(Linear, KernelsOfEveryTierGiveTheSameBits) {
  const FloatMode mode;
  test::Random random(14);
  const std::int64_t inputs = 4104, outputs = 37, rows = 71, used = 65;
  test::Fp8Weight w8(random, outputs, inputs);
  const auto x = random.normals(rows * inputs);
  Buffer scratch(linear_scratch_bytes(inputs), "scratch");
  std::vector<std::int32_t> chosen;
  for (std::int64_t i = 0; i < used; ++i) chosen.push_back(static_cast<std::int32_t>(random.below(rows)));
  std::vector<float> want;  // what fewer rows begin with
  for (Isa isa : test::present_tiers()) {
    std::vector<std::uint16_t> packed(packed_bytes(rows, inputs) / sizeof(std::uint16_t));
    pack_bf16_kernel.at(isa)(x.data(), rows, inputs, packed.data());
    for (std::int64_t count : {used, std::int64_t{2}, std::int64_t{3}, std::int64_t{4}, std::int64_t{11}}) {
      std::vector<float> y(static_cast<std::size_t>(count * outputs), 7.0f);
      linear_bf16_kernel.at(isa)({.weight = linear_weight(w8.tensor(), Compute::bf16),
                                  .x = packed.data(),
                                  .x_rows = chosen.data(),
                                  .rows = count,
                                  .y = y.data(),
                                  .y_stride = outputs,
                                  .begin = 3,
                                  .end = 36,
                                  .scratch = scratch.data()});
      if (isa == Isa::scalar && count == used) want = y;
      test::expect_same_bits(y, std::span(want).first(y.size()), name_of(isa).data());
      EXPECT_EQ(y[2], 7.0f);
      EXPECT_EQ(y[36], 7.0f);
    }
  }
}

// What a call leaves in the scratch of its inputs serves calls after it, whatever the rows and their groups.
TEST(Linear, CallsThatShareTheirInputsGiveTheSameBits) {
  const FloatMode mode;
  test::Random random(19);
  const std::int64_t inputs = 2100, outputs = 40;
  test::Fp8Weight first(random, outputs, inputs), second(random, outputs, inputs);
  Buffer scratch(linear_scratch_bytes(inputs), "scratch");
  for (std::int64_t rows : {1, 9, 13, 64, 150}) {
    const auto x = random.normals(rows * inputs);
    std::vector<std::uint16_t> packed(packed_bytes(rows, inputs) / sizeof(std::uint16_t));
    pack_bf16_kernel.best()(x.data(), rows, inputs, packed.data());
    for (Isa isa : test::present_tiers()) {
      const auto multiply = [&](const test::Fp8Weight& weight, std::int64_t begin, bool same_x) {
        std::vector<float> y(static_cast<std::size_t>(rows * outputs));
        linear_bf16_widened_kernel.at(isa)({.weight = linear_weight(weight.tensor(), Compute::bf16),
                                            .x = packed.data(),
                                            .x_rows = nullptr,
                                            .rows = rows,
                                            .y = y.data(),
                                            .y_stride = outputs,
                                            .begin = begin,
                                            .end = outputs,
                                            .scratch = scratch.data(),
                                            .same_x = same_x});
        return y;
      };
      const auto want = multiply(second, 5, false);
      multiply(first, 0, false);
      test::expect_same_bits(multiply(second, 5, true), want, name_of(isa).data());
    }
  }
}

TEST(Linear, KernelsStayWithinTheirScratch) {
  const FloatMode mode;
  test::Random random(20);
  const std::int64_t inputs = 8192, outputs = 24, rows = 13;
  test::Fp8Weight w8(random, outputs, inputs);
  const auto x = random.normals(rows * inputs);
  std::vector<std::uint16_t> packed(packed_bytes(rows, inputs) / sizeof(std::uint16_t));
  pack_bf16_kernel.best()(x.data(), rows, inputs, packed.data());
  const std::size_t size = linear_scratch_bytes(inputs), beyond = 1 << 20;
  Buffer scratch(size + beyond, "scratch");
  std::vector<float> y(static_cast<std::size_t>(rows * outputs));
  for (Isa isa : test::present_tiers())
    for (Compute compute : {Compute::bf16, Compute::f32}) {
      const bool bf16 = compute == Compute::bf16;
      std::memset(scratch.data() + size, 0x5a, beyond);
      (bf16 ? linear_bf16_widened_kernel : linear_f32_kernel)
          .at(isa)({.weight = linear_weight(w8.tensor(), compute),
                    .x = bf16 ? static_cast<const void*>(packed.data()) : x.data(),
                    .x_rows = nullptr,
                    .rows = rows,
                    .y = y.data(),
                    .y_stride = outputs,
                    .begin = 0,
                    .end = outputs,
                    .scratch = scratch.data()});
      const auto* guard = reinterpret_cast<const unsigned char*>(scratch.data() + size);
      EXPECT_TRUE(std::all_of(guard, guard + beyond, [](unsigned char byte) { return byte == 0x5a; }))
          << name_of(isa) << (bf16 ? " bf16" : " f32");
    }
}

TEST(Linear, LongRows) {
  test::Random random(10);
  const std::int64_t inputs = 16384 + 72, outputs = 9, rows = 9;
  test::Fp8Weight w8(random, outputs, inputs);
  const auto x = random.normals(rows * inputs);
  const Linear fp8(w8.tensor(), {});
  const auto want = run_linear(Isa::scalar, fp8, x, rows, outputs);
  for (Isa isa : test::present_tiers())
    test::expect_same_bits(run_linear(isa, fp8, x, rows, outputs), want, name_of(isa).data());
}

// Values whose products and sums are denormal: every tier flushes them alike.
TEST(Linear, DenormalsAreFlushedOnEveryTier) {
  test::Random random(11);
  const std::int64_t inputs = 136, outputs = 8;
  for (float size : {1e-18f, 1e-20f, 1e-36f, 1e-39f})
    for (std::int64_t rows : {1, 6}) {
      const auto x = random.normals(rows * inputs, size), w = random.normals(outputs * inputs, 1e-20f);
      const auto w16 = test::to_bf16(w);
      const Linear bf16(test::matrix(Dtype::bf16, w16.data(), outputs, inputs), {});
      const auto want = run_linear(Isa::scalar, bf16, x, rows, outputs);
      for (Isa isa : test::present_tiers())
        test::expect_same_bits(run_linear(isa, bf16, x, rows, outputs), want, name_of(isa).data());
    }
}

TEST(Linear, SpecialRowsStayInTheirRow) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  test::Random random(12);
  const std::int64_t inputs = 72, outputs = 20, rows = 7;
  test::Fp8Weight w8(random, outputs, inputs);
  for (Compute compute : {Compute::bf16, Compute::f32}) {
    const Linear linear(w8.tensor(), computing(compute));
    const auto clean = random.normals(rows * inputs);
    auto x = clean;
    x[2 * 72 + 5] = nan;
    x[4 * 72 + 71] = inf;
    for (Isa isa : test::present_tiers()) {
      const auto want = run_linear(isa, linear, clean, rows, outputs), y = run_linear(isa, linear, x, rows, outputs);
      test::expect_special_rows(y, want, outputs, 2, 4);
    }
  }
}

TEST(Linear, BiasScaleAndRounding) {
  test::Random random(13);
  const std::int64_t inputs = 64, outputs = 33, rows = 3;
  const auto x = test::rounded_to_bf16(random.normals(rows * inputs)), w = random.normals(outputs * inputs);
  const auto w16 = test::to_bf16(w);
  const auto bias = random.normals(outputs);
  const Tensor weight = test::matrix(Dtype::bf16, w16.data(), outputs, inputs);
  const auto plain = run_linear(Isa::scalar, Linear(weight, {}), x, rows, outputs);
  LinearOptions options;
  options.bias = bias;
  options.scale = 0.707f;
  options.product = options.output = Rounding::bf16;
  const auto y = run_linear(Isa::scalar, Linear(weight, options), x, rows, outputs, 2);
  for (std::size_t i = 0; i < y.size(); ++i)
    EXPECT_EQ(y[i], round_to_bf16(0.707f * round_to_bf16(plain[i] + bias[i % 33])));
}

TEST(Linear, PartsGiveTheBitsOfEachAlone) {
  test::Random random(17);
  const std::int64_t inputs = 1160, rows = 199, outputs[] = {300, 7, 64};  // three groups of rows
  const auto x = random.normals(rows * inputs), bias = random.normals(outputs[2]);
  test::Fp8Weight a(random, outputs[0], inputs), b(random, outputs[1], inputs);
  const auto c = test::to_bf16(random.normals(outputs[2] * inputs, 0.1f));
  const auto parts = [&] {
    std::vector<LinearPart> all = {{a.tensor()}, {b.tensor()}, {test::matrix(Dtype::bf16, c.data(), 64, inputs)}};
    all[1].options.output = Rounding::bf16;
    all[2].options.scale = 0.5f;
    all[2].options.bias = bias;
    return all;
  };
  const Linear together(parts());
  std::vector<float> want[3];  // row by row
  for (std::size_t i = 0; i < 3; ++i)
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::vector<float> one(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
      const auto y = run_linear(active_isa(), Linear({parts()[i]}), one, 1, outputs[i]);
      want[i].insert(want[i].end(), y.begin(), y.end());
    }
  for (const std::int64_t some : {std::int64_t{1}, std::int64_t{5}, rows})
    for (const int threads : {1, 2, 5}) {
      std::vector<float> y[3];
      for (std::size_t i = 0; i < 3; ++i) y[i].resize(static_cast<std::size_t>(some * outputs[i]));
      test::run_op(together, some, {x.data()}, {y[0].data(), y[1].data(), y[2].data()}, threads);
      for (std::size_t i = 0; i < 3; ++i) test::expect_same_bits(y[i], std::span(want[i]).first(y[i].size()), "a part");
    }
  EXPECT_THROW(Linear(std::vector<LinearPart>{}), Error);
  EXPECT_THROW(Linear({{a.tensor()}, {test::matrix(Dtype::bf16, c.data(), 32, 2 * inputs)}}), Error);
  EXPECT_THROW(Linear({{a.tensor()}, {b.tensor(), computing(Compute::f32)}}), Error);
}

TEST(Linear, RefusesWeightsThatDoNotFit) {
  const std::vector<float> data(256 * 256);
  const std::int64_t cube[] = {4, 4, 4};
  EXPECT_THROW(Linear(Tensor(Dtype::bf16, cube, data.data()), {}), Error);
  EXPECT_THROW(Linear(test::matrix(Dtype::f32, data.data(), 8, 8), {}), Error);
  EXPECT_THROW(Linear(test::matrix(Dtype::f16, data.data(), 8, 8), computing(Compute::f32)), Error);
  EXPECT_THROW(Linear(test::matrix(Dtype::f8_e4m3, data.data(), 8, 8), {}), Error);
  const std::int64_t shape[] = {8, 200};
  EXPECT_THROW(Linear(Tensor(Dtype::f8_e4m3, shape, data.data(), {data.data(), 1, 8}), {}), Error);
  EXPECT_THROW(Linear(Tensor(Dtype::f8_e4m3, shape, data.data(), {data.data(), 2, 3}), {}), Error);
  EXPECT_THROW(Linear(Tensor(Dtype::f8_e4m3, shape, data.data(), {data.data(), 2, 8, 128}), {}), Error);
  const std::vector<std::uint8_t> exponents(64, 127);
  EXPECT_THROW(Linear(Tensor::mxfp4(8, 48, data.data(), exponents.data()), {}), Error);
  EXPECT_THROW(Linear(test::matrix(Dtype::u8, data.data(), 8, 16), {}), Error);
  LinearOptions options;
  options.bias = {1, 2};
  EXPECT_THROW(Linear(test::matrix(Dtype::bf16, data.data(), 8, 8), options), Error);
}

}  // namespace
}  // namespace millrace
