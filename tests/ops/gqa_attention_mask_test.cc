// Masks and recorded probabilities of attention; the built-in rule is tested in gqa_attention_test.cc.
#include <gtest/gtest.h>

#include <limits>

#include "ops/gqa_attention.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "tests/oracle/gqa_attention.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;
using Flags = std::vector<std::uint8_t>;
using oracle::GqaShape;

constexpr float inf = std::numeric_limits<float>::infinity();

struct Case {
  GqaShape shape;
  std::int64_t rows;
  Floats q, k, v, sinks;
};

Case random_case(test::Random& random, const GqaShape& shape, std::int64_t rows, bool sinks) {
  Case c{shape,
         rows,
         random.normals(rows * shape.heads * shape.qk_dim, 0.7f),
         random.normals(rows * shape.kv_heads * shape.qk_dim, 0.7f),
         random.normals(rows * shape.kv_heads * shape.v_dim),
         sinks ? random.normals(shape.heads) : Floats{}};
  for (Floats* x : {&c.k, &c.v})
    for (float& value : *x) value = round_to_bf16(value);
  return c;
}

struct Way {
  Isa isa = active_isa();
  Rounding rounding = Rounding::none;
  int threads = 1;
  std::int64_t chunk = 1 << 20;
};

// Every row of the case, `mask` (rows, rows) applied by chunks of rows.
Floats run(const Case& c, const KeyMask& mask, const Way& way = {}, Floats* probabilities = nullptr) {
  const test::WithIsa with(way.isa);
  const auto [heads, kv_heads, qk_dim, v_dim, window] = c.shape;
  const LayerKvShape kv{kv_heads, qk_dim, v_dim, window};
  const GqaAttention op({.heads = heads, .kv = kv, .sinks = c.sinks, .rounding = way.rounding, .max_context = 512});
  KvCache cache(std::vector<LayerKvShape>{kv}, Dtype::bf16, 512);
  Floats out(static_cast<std::size_t>(c.rows * heads * v_dim), -7.0f);
  if (probabilities != nullptr) probabilities->assign(static_cast<std::size_t>(c.rows * heads * c.rows), 0.0f);
  for (std::int64_t begin = 0; begin < c.rows; begin += way.chunk) {
    const std::int64_t rows = std::min(way.chunk, c.rows - begin);
    KeyMask own = mask;
    if (own.visible != nullptr) own.visible += begin * own.stride;
    if (own.additive != nullptr) own.additive += begin * own.stride;
    RunInputs inputs{.full_mask = own, .sliding_mask = own, .probability_keys = c.rows};
    float* const recorded = probabilities == nullptr ? nullptr : probabilities->data() + begin * heads * c.rows;
    if (probabilities != nullptr) inputs.probabilities = {&recorded, 1};
    Batch batch;
    batch.runs = {{&cache, 0, rows, &inputs}};
    cache.reserve(begin + rows);
    test::run_op(op, rows,
                 {c.q.data() + begin * heads * qk_dim, c.k.data() + begin * kv_heads * qk_dim,
                  c.v.data() + begin * kv_heads * v_dim},
                 {out.data() + begin * heads * v_dim}, way.threads, batch);
    cache.advance(rows);
  }
  return out;
}

Flags built_in(const Case& c) {
  Flags visible;
  for (std::int64_t i = 0; i < c.rows; ++i)
    for (std::int64_t j = 0; j < c.rows; ++j)
      visible.push_back(j <= i && (c.shape.window == 0 || j > i - c.shape.window));
  return visible;
}

Floats as_additive(const Flags& visible, float hidden) {
  Floats additive;
  for (std::uint8_t flag : visible) additive.push_back(flag != 0 ? 0.0f : hidden);
  return additive;
}

const std::vector<GqaShape> shapes = {{6, 3, 24, 16, 0}, {4, 2, 36, 24, 8}, {3, 1, 17, 15, 1}, {8, 1, 64, 40, 100}};

TEST(GqaAttentionMask, TheBuiltInRuleAsAMaskGivesItsBits) {
  test::Random random(1);
  for (const GqaShape& shape : shapes)
    for (Isa isa : test::present_tiers())
      for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
        const Case c = random_case(random, shape, isa == Isa::scalar ? 40 : 290, shape.window > 0);
        const Way way{.isa = isa, .rounding = rounding, .threads = 2};
        const Floats want = run(c, {}, way);
        const Flags visible = built_in(c), all(static_cast<std::size_t>(c.rows), 1);
        test::expect_same_bits(run(c, {.keep = all.data()}, way), want, "keep");
        test::expect_same_bits(run(c, {.visible = visible.data(), .stride = c.rows}, way), want, "visible");
        for (float hidden : {-inf, std::numeric_limits<float>::lowest(), -65504.0f}) {
          const Floats additive = as_additive(visible, hidden);
          test::expect_same_bits(run(c, {.additive = additive.data(), .stride = c.rows}, way), want, "additive");
        }
        const Way chunks{.isa = isa, .rounding = rounding, .chunk = 13};
        test::expect_same_bits(run(c, {.visible = visible.data(), .stride = c.rows}, chunks), want, "chunks");
      }
}

// Random masks, the future included, against the oracle: hidden keys, added numbers, rows that see nothing.
TEST(GqaAttentionMask, MatchesTheOracle) {
  test::Random random(2);
  for (const GqaShape& shape : shapes)
    for (bool sinks : {false, true})
      for (bool biased : {false, true}) {
        const Case c = random_case(random, shape, 33, sinks);
        Floats additive;
        Flags visible;
        std::vector<double> mask;
        for (std::int64_t i = 0; i < c.rows * c.rows; ++i) {
          const bool hidden = random.below(3) == 0 || i / c.rows == 7;
          additive.push_back(hidden ? -inf : biased ? random.uniform(-3, 3) : 0.0f);
          visible.push_back(!hidden);
          mask.push_back(double{additive.back()});
        }
        double s = sinks ? 6 : 0;
        const auto want = oracle::gqa_attention(shape, c.q, c.k, c.v, c.sinks, &s, mask);
        // As in gqa_attention_test.cc, with one rounding more of the score.
        const double n = static_cast<double>(c.rows), f = test::f32_unit;
        const double score = static_cast<double>(shape.qk_dim + 5) * f * s + 3 * f;
        const double tolerance = std::expm1(2 * score + (n / 16 + 6) * f + (n + 2) * f);
        for (Isa isa : test::present_tiers()) {
          const Way way{.isa = isa, .threads = 2};
          const Floats got = run(c, {.additive = additive.data(), .stride = c.rows}, way);
          test::expect_close(got, want, tolerance, name_of(isa).data());
          if (!biased)
            test::expect_same_bits(run(c, {.visible = visible.data(), .stride = c.rows}, way), got, "visible");
        }
      }
}

TEST(GqaAttentionMask, HiddenKeysCountForNothing) {
  test::Random random(3);
  for (const GqaShape& shape : shapes) {
    Case c = random_case(random, shape, 60, shape.window > 0);
    Flags keep(60, 1);
    for (std::size_t key : {0u, 1u, 2u, 30u, 59u}) keep[key] = 0;
    const Floats want = run(c, {.keep = keep.data()});
    const Floats chunked = run(c, {.keep = keep.data()}, {.chunk = 7});
    test::expect_same_bits(chunked, want, "chunks");
    for (std::size_t key : {0u, 30u}) {
      const auto width = static_cast<std::size_t>(shape.kv_heads * shape.qk_dim);
      std::fill_n(c.k.begin() + static_cast<std::ptrdiff_t>(key * width), width, 1e30f);
    }
    test::expect_same_bits(run(c, {.keep = keep.data()}), want, "hidden key");
    EXPECT_EQ(want[0], 0.0f) << "row 0 sees nothing";
  }
}

// The weights, times the values, are the result; without a sink they sum to one.
TEST(GqaAttentionMask, RecordsProbabilities) {
  test::Random random(4);
  for (const GqaShape& shape : shapes)
    for (bool masked : {false, true})
      for (Isa isa : test::present_tiers()) {
        const Case c = random_case(random, shape, 40, false);
        Flags visible = built_in(c);
        if (masked)
          for (std::size_t i = 0; i < visible.size(); ++i) visible[i] = visible[i] && (i % 41 == 0 || i % 3 != 0);
        const KeyMask mask = masked ? KeyMask{.visible = visible.data(), .stride = c.rows} : KeyMask{};
        Floats probabilities, again;
        const Floats out = run(c, mask, {.isa = isa, .threads = 2}, &probabilities);
        test::expect_same_bits(out, run(c, mask, {.isa = isa}), "recording changes nothing");
        run(c, mask, {.isa = isa, .chunk = 9}, &again);
        test::expect_same_bits(again, probabilities, "chunks");
        const auto [heads, kv_heads, qk_dim, v_dim, window] = shape;
        for (std::int64_t row = 0; row < c.rows; ++row)
          for (std::int64_t h = 0; h < heads; ++h) {
            const float* p = probabilities.data() + (row * heads + h) * c.rows;
            double sum = 0, first = 0;
            for (std::int64_t j = 0; j < c.rows; ++j) {
              EXPECT_EQ(p[j] != 0, visible[static_cast<std::size_t>(row * c.rows + j)] != 0) << row << " " << j;
              sum += double{p[j]};
              first +=
                  double{p[j]} * double{c.v[static_cast<std::size_t>((j * kv_heads + h / (heads / kv_heads)) * v_dim)]};
            }
            EXPECT_NEAR(sum, 1, 1e-5);
            EXPECT_NEAR(first, out[static_cast<std::size_t>((row * heads + h) * v_dim)], 1e-5);
          }
      }
}

TEST(GqaAttentionMask, RefusesKeysTheRingLetGo) {
  test::Random random(5);
  const Case c = random_case(random, {2, 1, 16, 16, 4}, 20, true);
  const Flags all(400, 1);
  EXPECT_NO_THROW(run(c, {.visible = all.data(), .stride = 20}));
  EXPECT_THROW(run(c, {.visible = all.data(), .stride = 20}, {.chunk = 8}), Error);
}

}  // namespace
}  // namespace millrace
