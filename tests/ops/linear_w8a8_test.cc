#include "ops/linear_w8a8.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "loader/safetensors.h"
#include "ops/linear.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/float_mode.h"
#include "tests/oracle/linear_w8a8.h"
#include "tests/support/golden.h"
#include "tests/support/random.h"
#include "tests/support/run_linear.h"
#include "tests/support/tiers.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

// What quantize_rows makes, unpacked: values (rows, inputs), scales (rows, groups).
struct Quantized {
  std::vector<float> values, scales;
};

Quantized quantize(Isa isa, const std::vector<float>& x, std::int64_t inputs,
                   ActivationScale form = ActivationScale::f32) {
  const FloatMode mode;
  const std::int64_t rows = std::ssize(x) / inputs;
  std::vector<QuantizedGroup> groups(static_cast<std::size_t>(rows * quantized_groups(inputs)));
  quantize_rows_kernel.at(isa)(x.data(), rows, inputs, form, groups.data());
  Quantized out;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto begin = static_cast<std::int64_t>(g) % quantized_groups(inputs) * linear_block;
    for (std::int64_t i = 0; i < linear_block; ++i) {
      const Bfloat16 value = groups[g].values[i];
      if (begin + i < inputs)
        out.values.push_back(bf16_to_f32(value));
      else {
        EXPECT_EQ(value, 0);
      }
    }
    out.scales.push_back(groups[g].scale);
  }
  return out;
}

using test::computing;
using test::run_linear;

std::vector<test::Measured> oracle_of(const std::vector<float>& x, test::Fp8Weight& weight, std::int64_t inputs,
                                      bool power_of_two) {
  std::vector<float> codes;
  for (std::uint8_t code : weight.codes()) codes.push_back(e4m3_to_f32(code));
  return oracle::linear_w8a8(x, codes, inputs, power_of_two, [&](std::int64_t output, std::size_t group) {
    return weight.tensor().scales().row(output)[group];
  });
}

// Groups of very different sizes, with exact ties, zeros, the scale's floor and denormals.
std::vector<float> awkward_rows(test::Random& random, std::int64_t rows, std::int64_t inputs) {
  auto x = random.normals(rows * inputs);
  for (std::int64_t i = 0; i < std::ssize(x); ++i) {
    float& value = x[static_cast<std::size_t>(i)];
    if (i % 17 == 3) value = 0;
    if (i % 23 == 5) value *= 1e-5f;
    if (i % 29 == 7) value = 448.0f * 0x1p-6f;
    if (i % 31 == 9) value = -17.0f * 0x1p-10f;
    if (i / inputs % 4 == 1) value *= 1e-12f;
    if (i / inputs % 4 == 2) value *= 1e20f;
    if (i / inputs % 4 == 3 && i % inputs >= 128) value *= 1e-30f;
  }
  return x;
}

TEST(LinearW8a8, CodesAndScalesAreThoseOfTheOracle) {
  test::Random random(1);
  for (std::int64_t inputs : {1, 15, 16, 127, 128, 129, 168, 200, 512})
    for (ActivationScale form : {ActivationScale::f32, ActivationScale::power_of_two}) {
      const std::int64_t rows = 5;
      const auto x = awkward_rows(random, rows, inputs);
      for (Isa isa : test::present_tiers()) {
        const Quantized got = quantize(isa, x, inputs, form);
        std::size_t group = 0;
        for (std::int64_t row = 0; row < rows; ++row)
          for (std::int64_t e = 0; e < inputs; e += 128, ++group) {
            const auto at = static_cast<std::size_t>(row * inputs + e);
            const auto count = static_cast<std::size_t>(std::min<std::int64_t>(128, inputs - e));
            const auto want =
                oracle::quantize_group(std::span(x).subspan(at, count), form == ActivationScale::power_of_two);
            ASSERT_EQ(got.scales[group], want.scale) << name_of(isa);
            for (std::size_t i = 0; i < count; ++i)
              ASSERT_EQ(double{got.values[at + i]}, want.values[i]) << name_of(isa) << " " << x[at + i];
          }
      }
    }
}

TEST(LinearW8a8, MatchesTheOracle) {
  test::Random random(2);
  for (std::int64_t inputs : {1, 40, 128, 129, 168, 200, 1160})
    for (Compute compute : {Compute::w8a8, Compute::w8a8_ue8m0}) {
      const std::int64_t outputs = 150, rows = 4;
      test::Fp8Weight weight(random, outputs, inputs, 75);
      const auto x = awkward_rows(random, rows, inputs);
      const auto want = oracle_of(x, weight, inputs, compute == Compute::w8a8_ue8m0);
      // A chain of 8 in a block and 4 sums, two factors, a sum per block.
      const double tolerance = (static_cast<double>(inputs) / 128 + 16) * test::f32_unit;
      const Linear linear(weight.tensor(), computing(compute));
      for (Isa isa : test::present_tiers())
        test::expect_close(run_linear(isa, linear, x, rows, outputs), want, tolerance, name_of(isa).data());
    }
}

TEST(LinearW8a8, SameBitsForAnyRowsTiersAndThreads) {
  test::Random random(3);
  for (std::int64_t inputs : {40, 200, 1160})
    for (std::int64_t outputs : {1, 17, 131}) {
      test::Fp8Weight weight(random, outputs, inputs);
      const Linear linear(weight.tensor(), computing(Compute::w8a8));
      const std::int64_t most = 131;
      const auto x = awkward_rows(random, most, inputs);
      std::vector<float> want;
      for (std::int64_t row = 0; row < most; ++row) {
        const auto y =
            run_linear(Isa::scalar, linear, {x.begin() + row * inputs, x.begin() + (row + 1) * inputs}, 1, outputs);
        want.insert(want.end(), y.begin(), y.end());
      }
      for (std::int64_t rows : {2, 5, 64, 65, 131})
        for (Isa isa : test::present_tiers())
          for (int threads : {1, 3})
            test::expect_same_bits(run_linear(isa, linear, x, rows, outputs, threads),
                                   std::span(want).first(static_cast<std::size_t>(rows * outputs)),
                                   name_of(isa).data());
    }
}

// The kernel itself, on some rows in any order and some outputs.
TEST(LinearW8a8, ChosenRowsAndOutputs) {
  const FloatMode mode;
  test::Random random(4);
  const std::int64_t inputs = 300, outputs = 37, rows = 71, used = 65;
  test::Fp8Weight weight(random, outputs, inputs);
  const auto x = random.normals(rows * inputs);
  Buffer scratch(linear_scratch_bytes(inputs), "scratch");
  std::vector<std::int32_t> chosen;
  for (std::int64_t i = 0; i < used; ++i) chosen.push_back(static_cast<std::int32_t>(random.below(rows)));
  const auto all = run_linear(Isa::scalar, Linear(weight.tensor(), computing(Compute::w8a8)), x, rows, outputs);
  for (Isa isa : test::present_tiers()) {
    std::vector<QuantizedGroup> quantized(static_cast<std::size_t>(rows * quantized_groups(inputs)));
    quantize_rows_kernel.at(isa)(x.data(), rows, inputs, ActivationScale::f32, quantized.data());
    std::vector<float> y(static_cast<std::size_t>(used * outputs), 7.0f);
    linear_w8a8_kernel.at(isa)({.weight = linear_weight(weight.tensor(), Compute::w8a8),
                                .x = quantized.data(),
                                .x_rows = chosen.data(),
                                .rows = used,
                                .y = y.data(),
                                .y_stride = outputs,
                                .begin = 3,
                                .end = 36,
                                .scratch = scratch.data()});
    for (std::int64_t i = 0; i < used * outputs; ++i) {
      const std::int64_t o = i % outputs, source = chosen[static_cast<std::size_t>(i / outputs)];
      ASSERT_EQ(y[static_cast<std::size_t>(i)],
                o < 3 || o >= 36 ? 7.0f : all[static_cast<std::size_t>(source * outputs + o)])
          << name_of(isa);
    }
  }
}

TEST(LinearW8a8, SpecialRowsStayInTheirRow) {
  test::Random random(5);
  const std::int64_t inputs = 200, outputs = 20, rows = 7;
  test::Fp8Weight weight(random, outputs, inputs);
  for (Compute compute : {Compute::w8a8, Compute::w8a8_ue8m0}) {
    const Linear linear(weight.tensor(), computing(compute));
    const auto clean = random.normals(rows * inputs);
    auto x = clean;
    x[2 * 200 + 5] = nan;
    x[2 * 200 + 40] = 1;
    x[4 * 200 + 199] = -inf;
    x[5 * 200] = std::numeric_limits<float>::max();
    for (Isa isa : test::present_tiers()) {
      const auto want = run_linear(isa, linear, clean, rows, outputs), y = run_linear(isa, linear, x, rows, outputs);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t row = i / 20;
        if (row == 2 || row == 4) {
          EXPECT_TRUE(std::isnan(y[i]));
        } else if (row != 5) {
          EXPECT_EQ(y[i], want[i]);
        }
      }
    }
  }
}

// One product of the reference implementation, ragged in both directions, its last row at the floor of the scale.
TEST(LinearW8a8, GoldenCodesAndScalesExactly) {
  const SafetensorsFile file(test::golden("models/mimo-basic/golden/w8a8-linear.safetensors").string());
  const auto read = [&](const char* name) {
    const TensorEntry* entry = file.find(name);
    if (entry == nullptr) throw std::runtime_error(name);
    return file.read(*entry);
  };
  const auto floats = [&](const char* name) {
    const auto bytes = read(name);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  const std::int64_t rows = 5, inputs = 200, outputs = 300;
  const auto x = floats("x"), x_scale = floats("x_scale"), weight_scale = floats("weight_scale_inv"), y = floats("y");
  const auto codes = read("x_codes"), weight = read("weight");
  const std::int64_t shape[] = {outputs, inputs};
  const Linear linear(Tensor(Dtype::f8_e4m3, shape, weight.data(), {weight_scale.data(), 2, outputs}),
                      computing(Compute::w8a8));
  for (Isa isa : test::present_tiers()) {
    const Quantized got = quantize(isa, x, inputs);
    EXPECT_EQ(got.scales, x_scale);
    ASSERT_EQ(got.values.size(), codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(got.values[i]),
                std::bit_cast<std::uint32_t>(e4m3_to_f32(static_cast<std::uint8_t>(codes[i]))));
    const auto product = run_linear(isa, linear, x, rows, outputs);
    for (std::size_t row = 0; row < 5; ++row) {
      double largest = 0, difference = 0;
      for (std::size_t i = row * 300; i < (row + 1) * 300; ++i) {
        largest = std::max(largest, std::abs(double{y[i]}));
        difference = std::max(difference, std::abs(double{product[i]} - double{y[i]}));
      }
      EXPECT_LE(difference, 16 * test::f32_unit * largest) << row;
    }
  }
}

TEST(LinearW8a8, RefusesOtherWeights) {
  const std::vector<float> data(64);
  EXPECT_THROW(Linear(test::matrix(Dtype::bf16, data.data(), 8, 8), computing(Compute::w8a8)), Error);
  EXPECT_THROW(Linear(test::matrix(Dtype::f32, data.data(), 8, 8), computing(Compute::w8a8_ue8m0)), Error);
}

}  // namespace
}  // namespace millrace
