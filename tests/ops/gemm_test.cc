#include "ops/gemm.h"

#include <gtest/gtest.h>

#include <vector>

#include "ops/linear.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "tests/oracle/linear.h"
#include "tests/support/run_op.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

struct Gemm {
  std::int64_t rows, outputs, inputs;
  std::vector<float> x;
  std::vector<Bfloat16> weight;

  Gemm(std::uint64_t seed, std::int64_t r, std::int64_t o, std::int64_t i) : rows(r), outputs(o), inputs(i) {
    test::Random random(seed);
    x = test::rounded_to_bf16(random.normals(rows * inputs));
    weight = test::to_bf16(random.normals(outputs * inputs, 0.02f));
  }
  Tensor tensor() const { return test::matrix(Dtype::bf16, weight.data(), outputs, inputs); }
  std::vector<float> run(int threads) const {
    std::vector<float> y(static_cast<std::size_t>(rows * outputs), -1.0f);
    Buffer scratch(gemm_scratch_bytes(inputs, threads), "scratch");
    gemm_f32(x.data(), rows, tensor(), y.data(), Parallel(threads), {scratch.data(), scratch.bytes()});
    return y;
  }
};

// Two implementations that share nothing but their operands, and the formula.
TEST(Gemm, AgreesWithTheOracleAndWithLinear) {
  for (std::int64_t inputs : {1, 40, 200, 1033})
    for (std::int64_t outputs : {1, 127, 130, 300}) {
      const Gemm gemm(static_cast<std::uint64_t>(inputs + outputs), 5, outputs, inputs);
      std::vector<float> weight, linear(static_cast<std::size_t>(5 * outputs));
      for (Bfloat16 value : gemm.weight) weight.push_back(bf16_to_f32(value));
      const auto want = oracle::linear(gemm.x, weight, {}, inputs);
      test::run_op(Linear(gemm.tensor(), {}), 5, {gemm.x.data()}, {linear.data()});
      const double any_order = static_cast<double>(inputs + 2) * test::f32_unit;
      test::expect_close(gemm.run(1), want, any_order, "gemm");
      test::expect_close(linear, want, any_order, "linear");
    }
}

TEST(Gemm, SameBitsForAnyThreads) {
  const Gemm gemm(3, 33, 515, 200);
  const auto want = gemm.run(1);
  for (int threads : {2, 3, 5}) test::expect_same_bits(gemm.run(threads), want, "threads");
}

TEST(Gemm, RefusesWhatItCannotDo) {
  const Gemm gemm(4, 2, 8, 8);
  std::vector<float> y(16);
  const Parallel parallel(1);
  Buffer scratch(gemm_scratch_bytes(8, 1), "scratch");
  const std::span<std::byte> memory(scratch.data(), scratch.bytes());
  EXPECT_THROW(gemm_f32(gemm.x.data(), 2, test::matrix(Dtype::f32, y.data(), 2, 8), y.data(), parallel, memory), Error);
  EXPECT_THROW(gemm_f32(gemm.x.data(), 2, gemm.tensor(), y.data(), parallel, memory.first(64)), Error);
  EXPECT_THROW(gemm_f32(gemm.x.data(), 2, gemm.tensor(), y.data(), Parallel(65), memory), Error);
}

}  // namespace
}  // namespace millrace
