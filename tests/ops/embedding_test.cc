#include "ops/embedding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/run_inputs.h"
#include "tests/oracle/embedding.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

constexpr std::int64_t vocab = 61;

std::vector<float> run(const Tensor& table, const std::vector<std::int32_t>& tokens, Rounding rounding,
                       int threads = 1) {
  Batch batch;
  batch.tokens = tokens;
  std::vector<float> y(tokens.size() * static_cast<std::size_t>(table.dim(1)));
  test::run_op(Embedding(table, rounding), batch.rows(), {}, {y.data()}, threads, batch);
  return y;
}

Tensor table_of(Dtype dtype, std::int64_t hidden, const void* data) {
  const std::array<std::int64_t, 2> shape = {vocab, hidden};
  return Tensor(dtype, shape, data);
}

std::vector<std::int32_t> some_tokens(std::size_t count) {
  test::Random random(41);
  std::vector<std::int32_t> tokens = {0, vocab - 1};
  while (tokens.size() < count) tokens.push_back(static_cast<std::int32_t>(random.below(vocab)));
  return tokens;
}

TEST(Embedding, WidensEveryDtypeExactly) {
  test::Random random(42);
  const auto tokens = some_tokens(150);
  for (std::int64_t hidden : {1, 7, 16, 33, 300}) {
    std::vector<Bfloat16> bf16;
    std::vector<std::uint16_t> f16;
    const auto f32 = random.normals(vocab * hidden);
    std::vector<double> bf16_values, f16_values, f32_values(f32.begin(), f32.end());
    for (float value : f32) {
      const Eigen::bfloat16 b(value);
      const Eigen::half h(value * 1e-4f);  // some of them denormal
      bf16.push_back(b.value), bf16_values.push_back(static_cast<double>(b));
      f16.push_back(h.x), f16_values.push_back(static_cast<double>(h));
    }
    const auto size = static_cast<std::size_t>(hidden);
    for (int threads : {1, 2, 5}) {
      test::expect_close(run(table_of(Dtype::f32, hidden, f32.data()), tokens, Rounding::none, threads),
                         oracle::embedding(f32_values, size, tokens), 0, "f32");
      test::expect_close(run(table_of(Dtype::f16, hidden, f16.data()), tokens, Rounding::none, threads),
                         oracle::embedding(f16_values, size, tokens), 0, "f16");
      for (Rounding rounding : {Rounding::none, Rounding::bf16})
        test::expect_close(run(table_of(Dtype::bf16, hidden, bf16.data()), tokens, rounding, threads),
                           oracle::embedding(bf16_values, size, tokens), 0, "bf16");
      // A rounded fp32 table is the bf16 table.
      test::expect_close(run(table_of(Dtype::f32, hidden, f32.data()), tokens, Rounding::bf16, threads),
                         oracle::embedding(bf16_values, size, tokens), 0, "f32 rounded");
    }
  }
}

TEST(Embedding, NamesATokenOutsideTheVocabulary) {
  const std::vector<float> values(static_cast<std::size_t>(vocab));
  const Tensor table = table_of(Dtype::f32, 1, values.data());
  for (std::int32_t id : {-1, 61}) try {
      run(table, {3, id}, Rounding::none);
      FAIL() << id;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_argument);
      EXPECT_THAT(error.what(), testing::HasSubstr(fmt::format("token id {} ", id)));
      EXPECT_THAT(error.what(), testing::HasSubstr("61"));
    }
}

TEST(Embedding, RefusesOtherTables) {
  const std::vector<float> values(static_cast<std::size_t>(vocab));
  EXPECT_THROW(Embedding(table_of(Dtype::i32, 1, values.data()), Rounding::none), Error);
  const std::array<std::int64_t, 1> flat = {vocab};
  EXPECT_THROW(Embedding(Tensor(Dtype::f32, flat, values.data()), Rounding::none), Error);
}

TEST(Embedding, TakesWhatARunBrings) {
  test::Random random(47);
  const auto values = test::to_bf16(random.normals(vocab * 20));
  const Tensor table = table_of(Dtype::bf16, 20, values.data());
  const auto own = random.normals(3 * 20);
  RunInputs inputs{.embeddings = own.data()};
  Batch batch;
  batch.tokens = {4, 5, -1, -1, -1, 6};
  batch.runs = {{nullptr, 0, 2}, {nullptr, 2, 5, &inputs}, {nullptr, 5, 6}};
  for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
    std::vector<float> y(6 * 20);
    test::run_op(Embedding(table, rounding), 6, {}, {y.data()}, 2, batch);
    const auto looked_up = run(table, {4, 5, 6}, rounding);
    const auto rows = [&](std::size_t first, std::size_t count) {
      return std::span(y).subspan(first * 20, count * 20);
    };
    test::expect_same_bits(rows(0, 2), std::span(looked_up).first(40), "before");
    test::expect_same_bits(rows(5, 1), std::span(looked_up).last(20), "after");
    test::expect_same_bits(rows(2, 3), rounding == Rounding::bf16 ? test::rounded_to_bf16(own) : own, "given");
  }
}

}  // namespace
}  // namespace millrace
