// Op::cost of every operator against numbers worked out by hand.
#include <gtest/gtest.h>

#include <vector>

#include "ops/add.h"
#include "ops/concat.h"
#include "ops/embedding.h"
#include "ops/expert_mlp.h"
#include "ops/gather_rows.h"
#include "ops/gqa_attention.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/router.h"
#include "ops/swiglu.h"
#include "runtime/run_inputs.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

Cost cost_of(const Op& op, std::int64_t rows, const Batch& batch = {}, std::vector<const void*> inputs = {}) {
  std::vector<const std::byte*> in;
  for (const void* input : inputs) in.push_back(static_cast<const std::byte*>(input));
  const Parallel parallel(1);
  return op.cost({.batch = batch, .parallel = parallel, .rows = rows, .inputs = in, .outputs = {}, .scratch = {}});
}

void expect_cost(const Cost& cost, const Cost& want) {
  EXPECT_EQ(cost.weight_bytes, want.weight_bytes);
  EXPECT_EQ(cost.cache_bytes, want.cache_bytes);
  EXPECT_EQ(cost.activation_bytes, want.activation_bytes);
  EXPECT_EQ(cost.flops, want.flops);
  EXPECT_EQ(cost.bytes(), want.weight_bytes + want.cache_bytes + want.activation_bytes);
}

TEST(Cost, ElementwiseOperators) {
  expect_cost(cost_of(Add(10, Rounding::none), 3), {.activation_bytes = 3 * 10 * 12, .flops = 30});
  expect_cost(cost_of(Concat(4, 6), 3), {.activation_bytes = 3 * 10 * 8});
  expect_cost(cost_of(GatherRows(10), 3), {.activation_bytes = 3 * 10 * 8});
  expect_cost(cost_of(SwiGlu(10, Rounding::none), 3), {.activation_bytes = 3 * 10 * 12, .flops = 3 * 10 * 24});
  expect_cost(cost_of(RmsNorm(std::vector<float>(10, 1), 1e-6f, Rounding::none), 3),
              {.weight_bytes = 40, .activation_bytes = 3 * 10 * 8, .flops = 3 * 10 * 4});
  const Rope rope(RopeTable({.rotary_dim = 8, .theta = 1e4}), 2, 10, Rounding::none, Rounding::none);
  expect_cost(cost_of(rope, 3), {.activation_bytes = 3 * 2 * 10 * 8, .flops = 3 * 2 * 4 * 6});
  const Router router({.experts = 16, .top_k = 4}, std::vector<float>(16));
  expect_cost(cost_of(router, 3), {.weight_bytes = 64, .activation_bytes = 3 * (16 * 4 + 4 * 8), .flops = 3 * 16 * 24});
}

TEST(Cost, RowsOfATable) {
  const std::vector<std::uint16_t> table(100 * 10);
  expect_cost(cost_of(Embedding(test::matrix(Dtype::bf16, table.data(), 100, 10), Rounding::none), 3),
              {.weight_bytes = 3 * 10 * 2, .activation_bytes = 3 * 10 * 4});
}

TEST(Cost, WeightsAreReadOnceHoweverManyRows) {
  test::Random random(1);
  const test::Fp8Weight fp8(random, 256, 384);
  for (const std::int64_t rows : {1, 7})
    expect_cost(cost_of(Linear(fp8.tensor(), {}), rows),
                {.weight_bytes = 256 * 384 + 2 * 3 * 4,
                 .activation_bytes = static_cast<double>(rows * (384 + 256) * 4),
                 .flops = static_cast<double>(rows * 256 * 384 * 2)});
  const std::vector<std::uint16_t> bf16(256 * 384);
  EXPECT_EQ(cost_of(Linear(test::matrix(Dtype::bf16, bf16.data(), 256, 384), {}), 5).weight_bytes, 256 * 384 * 2);
  const std::vector<std::uint8_t> codes(256 * 192), exponents(256 * 12, 127);
  EXPECT_EQ(cost_of(Linear(Tensor::mxfp4(256, 384, codes.data(), exponents.data()), {}), 5).weight_bytes,
            256 * (192 + 12));
}

class Experts final : public ExpertSource {
 public:
  std::uint64_t expert_bytes(int layer) const override { return layer == 3 ? 1000 : 0; }
  ExpertLease acquire(int layer, int expert) override { return ExpertLease(*this, layer, expert, {}); }
};

TEST(Cost, ExpertsThatSomeRowWants) {
  Experts source;
  const ExpertMlp op(3, source, {.hidden = 20, .width = 10, .top_k = 2, .experts = 2000});
  const std::vector<std::int32_t> ids = {0, 1, 1, 1023, 1, 1999};
  const std::vector<float> x(3 * 20), weights(6);
  const double activations = 3 * 20 * 8;
  expect_cost(cost_of(op, 3, {}, {x.data(), ids.data(), weights.data()}),
              {.weight_bytes = 4 * 1000, .activation_bytes = activations, .flops = 6 * 2 * 3 * 20 * 10});
  // Row 1 wants none.
  KvCache cache({}, Dtype::bf16, 8);
  const std::uint8_t inactive[] = {0, 1, 0};
  const RunInputs inputs{.inactive = inactive};
  Batch batch;
  batch.runs.push_back({.cache = &cache, .begin = 0, .end = 3, .inputs = &inputs});
  expect_cost(cost_of(op, 3, batch, {x.data(), ids.data(), weights.data()}),
              {.weight_bytes = 3 * 1000, .activation_bytes = activations, .flops = 4 * 2 * 3 * 20 * 10});
  // Two rows that choose 2 of 4 evenly want 4 (1 - 1/2^2) on average.
  const ExpertMlp planned(3, source, {.hidden = 20, .width = 10, .top_k = 2, .experts = 4});
  EXPECT_DOUBLE_EQ(cost_of(planned, 2).weight_bytes, 3 * 1000);
}

// 4 query heads on 2 kv heads of 16 + 8 elements: 96 bytes a row, 4 * 24 * 2 flops for a row and a key.
class AttentionCost : public testing::Test {
 protected:
  Cost cost(std::int64_t window, std::int64_t held, std::int64_t rows, const RunInputs* inputs = nullptr) {
    const LayerKvShape shape{.kv_heads = 2, .qk_dim = 16, .v_dim = 8, .window = window};
    KvCache cache(std::span(&shape, 1), Dtype::bf16, 1000);
    cache.advance(held);
    Batch batch;
    batch.runs.push_back({.cache = &cache, .begin = 0, .end = rows, .inputs = inputs});
    const GqaAttention op({.heads = 4, .kv = shape, .max_context = 1000});
    const Cost result = cost_of(op, rows, batch);
    EXPECT_EQ(result.activation_bytes, static_cast<double>(rows * (4 * 24 + 2 * 24) * 4));
    EXPECT_EQ(result.weight_bytes, 0);
    return result;
  }
  static constexpr double row_bytes = 96, pair_flops = 192;
};

TEST_F(AttentionCost, ReadsWhatIsCachedOnce) {
  const Cost decode = cost(0, 100, 1);
  EXPECT_EQ(decode.cache_bytes, (100 + 1) * row_bytes);
  EXPECT_EQ(decode.flops, 101 * pair_flops);
  const Cost prefill = cost(0, 100, 3);
  EXPECT_EQ(prefill.cache_bytes, (100 + 3) * row_bytes);
  EXPECT_EQ(prefill.flops, (101 + 102 + 103) * pair_flops);
}

TEST_F(AttentionCost, SeesTheWindowOnly) {
  const Cost decode = cost(8, 100, 1);
  EXPECT_EQ(decode.cache_bytes, (7 + 1) * row_bytes);
  EXPECT_EQ(decode.flops, 8 * pair_flops);
  const Cost prefill = cost(8, 0, 10);
  EXPECT_EQ(prefill.cache_bytes, 10 * row_bytes);
  EXPECT_EQ(prefill.flops, (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 8 + 8) * pair_flops);
}

TEST_F(AttentionCost, CountsWhatMasksShow) {
  const std::vector<std::uint8_t> keep = {0, 1, 1, 1}, visible = {1, 1, 1, 1, 0, 0, 0, 1};
  const RunInputs padded{.full_mask = {.keep = keep.data()}};
  EXPECT_EQ(cost(0, 2, 2, &padded).flops, (2 + 3) * pair_flops);
  const RunInputs replaced{.full_mask = {.visible = visible.data(), .stride = 4}};
  EXPECT_EQ(cost(0, 2, 2, &replaced).flops, (4 + 1) * pair_flops);
}

}  // namespace
}  // namespace millrace
