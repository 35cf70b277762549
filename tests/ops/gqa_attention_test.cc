#include "ops/gqa_attention.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "tests/oracle/gqa_attention.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;
using oracle::GqaShape;

struct Sequence {
  Floats q, k, v;
  std::int64_t rows;
};

// k and v are bf16 values, as earlier steps leave them for a bf16 cache.
Sequence random_sequence(test::Random& random, const GqaShape& shape, std::int64_t rows) {
  Sequence s{random.normals(rows * shape.heads * shape.qk_dim, 0.7f),
             random.normals(rows * shape.kv_heads * shape.qk_dim, 0.7f),
             random.normals(rows * shape.kv_heads * shape.v_dim), rows};
  for (Floats* x : {&s.k, &s.v})
    for (float& value : *x) value = round_to_bf16(value);
  return s;
}

struct Variant {
  Isa isa = Isa::scalar;
  Rounding rounding = Rounding::none;
  Dtype cache = Dtype::bf16;
  int threads = 1;
  Floats sinks = {};
  std::int64_t max_context = 4096;
  Rounding shift = rounding;
};

GqaAttention make(const GqaShape& shape, const Variant& variant) {
  const LayerKvShape kv{shape.kv_heads, shape.qk_dim, shape.v_dim, shape.window};
  return GqaAttention({.kv_layer = 1,
                       .heads = shape.heads,
                       .kv = kv,
                       .cache = variant.cache,
                       .sinks = variant.sinks,
                       .rounding = variant.rounding,
                       .shift = variant.shift,
                       .max_context = variant.max_context});
}

KvCache cache_for(const GqaShape& shape, Dtype dtype) {
  const std::vector<LayerKvShape> layers = {{1, 1, 1, 0}, {shape.kv_heads, shape.qk_dim, shape.v_dim, shape.window}};
  return KvCache(layers, dtype, 4096);
}

// Rows [begin, end) of each sequence continue its cache, in one batch.
std::vector<Floats> pass(const GqaShape& shape, const Variant& variant, const std::vector<const Sequence*>& sequences,
                         const std::vector<KvCache*>& caches, std::int64_t rows) {
  const test::WithIsa with(variant.isa);
  Batch batch;
  Floats q, k, v;
  const auto append = [&](Floats& target, const Floats& x, const Sequence& s, std::int64_t begin, std::int64_t end) {
    const auto width = std::ssize(x) / s.rows;
    target.insert(target.end(), x.begin() + begin * width, x.begin() + end * width);
  };
  std::int64_t total = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = *sequences[i];
    const std::int64_t begin = caches[i]->length(), end = std::min(begin + rows, s.rows);
    if (begin == end) continue;
    caches[i]->reserve(end);
    batch.runs.push_back({caches[i], total, total + end - begin});
    total += end - begin;
    append(q, s.q, s, begin, end);
    append(k, s.k, s, begin, end);
    append(v, s.v, s, begin, end);
  }
  Floats out(static_cast<std::size_t>(total * shape.heads * shape.v_dim), -7.0f);
  test::run_op(make(shape, variant), total, {q.data(), k.data(), v.data()}, {out.data()}, variant.threads, batch);
  std::vector<Floats> of_sequence(sequences.size());
  auto next = out.begin();
  for (const Batch::Run& run : batch.runs) {
    run.cache->advance(run.end - run.begin);
    const auto i = static_cast<std::size_t>(std::find(caches.begin(), caches.end(), run.cache) - caches.begin());
    const auto last = next + (run.end - run.begin) * shape.heads * shape.v_dim;
    of_sequence[i].assign(next, last);
    next = last;
  }
  return of_sequence;
}

// The whole sequence in chunks of these sizes, repeated.
Floats run(const GqaShape& shape, const Variant& variant, const Sequence& sequence,
           const std::vector<std::int64_t>& chunks = {1 << 20}) {
  KvCache cache = cache_for(shape, variant.cache);
  Floats all;
  for (std::size_t i = 0; cache.length() < sequence.rows; ++i) {
    const auto out = pass(shape, variant, {&sequence}, {&cache}, chunks[i % chunks.size()]);
    all.insert(all.end(), out[0].begin(), out[0].end());
  }
  return all;
}

// Relative error of the result, from S = sum |q k| * scale and the unit u of the numerics: a score is off by its sum's
// (qk + 2) fp32 roundings and 2 of u, a difference of scores (below 2 S) by one of u, exp by 3 of fp32. Weight and
// denominator both carry that, and merging blocks another exp and 3 roundings for each of b blocks; the sums add
// n/16 + 6 and n + 2 roundings, weight and result one of u each.
double tolerance(const GqaShape& shape, std::int64_t rows, double s, double u) {
  const double n = static_cast<double>(shape.window > 0 ? std::min(shape.window, rows) : rows);
  const double f = test::f32_unit;
  const double score = static_cast<double>(shape.qk_dim + 2) * f * s + 2 * u * s + 2 * (u + f) * s + 3 * f;
  const double merges = (n / static_cast<double>(gqa_block) + 2) * (2 * f * s + 6 * f);
  return std::expm1(2 * score + 2 * merges + (n / 16 + 6) * f + (n + 2) * f + 2.02 * u);
}

const std::vector<GqaShape> shapes = {
    {6, 3, 24, 16, 0},    {6, 3, 36, 24, 8},   {10, 5, 40, 32, 9},  {8, 2, 48, 24, 1},  {3, 3, 24, 20, 2},
    {16, 1, 192, 128, 0}, {8, 1, 192, 128, 9}, {2, 2, 17, 15, 100}, {5, 1, 33, 70, 40}, {7, 1, 16, 64, 0},
};

TEST(GqaAttention, MatchesTheOracleOnEveryTier) {
  test::Random random(1);
  for (const GqaShape& shape : shapes)
    for (bool with_sinks : {false, true}) {
      const std::int64_t rows = 40;
      const Sequence sequence = random_sequence(random, shape, rows);
      const Floats sinks = with_sinks ? random.normals(shape.heads, 2) : Floats{};
      double s = 0;
      const auto want = oracle::gqa_attention(shape, sequence.q, sequence.k, sequence.v, sinks, &s);
      if (with_sinks) s = std::max(s, 6.0 * 2);
      for (Isa isa : test::present_tiers())
        for (Dtype dtype : {Dtype::bf16, Dtype::f32}) {
          test::expect_close(run(shape, {.isa = isa, .cache = dtype, .sinks = sinks}, sequence), want,
                             tolerance(shape, rows, s, 0), name_of(isa).data());
          const Variant hf{.isa = isa, .rounding = Rounding::bf16, .cache = dtype, .sinks = sinks};
          test::expect_close(run(shape, hf, sequence), want, tolerance(shape, rows, s, test::bf16_unit), "hf");
        }
    }
}

constexpr std::pair<Rounding, Rounding> roundings[] = {
    {Rounding::none, Rounding::none}, {Rounding::bf16, Rounding::bf16}, {Rounding::bf16, Rounding::none}};

TEST(GqaAttention, SameBitsOnEveryTierAndThreadCount) {
  test::Random random(2);
  for (const GqaShape& shape : shapes)
    for (const auto& [rounding, shift] : roundings)
      for (Dtype dtype : {Dtype::bf16, Dtype::f32}) {
        const Sequence sequence = random_sequence(random, shape, 70);
        Variant variant{.rounding = rounding, .cache = dtype, .sinks = random.normals(shape.heads), .shift = shift};
        const Floats want = run(shape, variant, sequence);
        for (Isa isa : test::present_tiers()) {
          variant.isa = isa;
          test::expect_same_bits(run(shape, variant, sequence), want, name_of(isa).data());
        }
        for (int threads : {2, 3, 5}) {
          variant.threads = threads;
          test::expect_same_bits(run(shape, variant, sequence), want, "threads");
        }
      }
}

TEST(GqaAttention, ChunksGiveTheBitsOfOneShot) {
  test::Random random(3);
  for (GqaShape shape : {GqaShape{4, 2, 24, 16, 0}, GqaShape{4, 1, 40, 24, 0}})
    for (std::int64_t window : {0, 1, 2, 8, 9, 29, 300, 1000}) {
      shape.window = window;
      const Sequence sequence = random_sequence(random, shape, 300);  // beyond a page of 256 rows
      for (Isa isa : test::present_tiers()) {
        if (isa == Isa::scalar && window != 0 && window != 9) continue;  // slow, and its bits are tested above
        for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
          const Variant variant{.isa = isa, .rounding = rounding, .sinks = random.normals(shape.heads)};
          const Floats want = run(shape, variant, sequence);
          test::expect_same_bits(run(shape, variant, sequence, {1, 7, 20, 12}), want, "chunks");
          test::expect_same_bits(run(shape, variant, sequence, {250, 1, 5, 30}), want, "chunks across a page");
          test::expect_same_bits(run(shape, variant, sequence, {1}), want, "row by row");
        }
      }
    }
}

// Several blocks, which few rows share out over threads one by one.
TEST(GqaAttention, BlocksMatchTheOracleAndDoNotDependOnWhoComputesThem) {
  test::Random random(9);
  for (const GqaShape& shape : {GqaShape{3, 1, 33, 20, 0}, GqaShape{4, 2, 24, 16, 1700}, GqaShape{1, 1, 16, 32, 500}}) {
    const std::int64_t rows = 2100;
    const Sequence sequence = random_sequence(random, shape, rows);
    const Floats sinks = random.normals(shape.heads);
    double s = 3;
    const auto want = oracle::gqa_attention(shape, sequence.q, sequence.k, sequence.v, sinks, &s);
    const Floats once = run(shape, {.isa = active_isa(), .sinks = sinks}, sequence);
    test::expect_close(once, want, tolerance(shape, rows, s, 0), "once");
    for (Isa isa : test::present_tiers())
      for (int threads : {1, 3}) {
        const Variant variant{.isa = isa, .threads = threads, .sinks = sinks};
        if (isa != Isa::scalar)
          test::expect_same_bits(run(shape, variant, sequence, {2043, 1, 2, 8, 3, 1}), once, name_of(isa).data());
        KvCache cache = cache_for(shape, Dtype::bf16);
        pass(shape, {.isa = active_isa(), .sinks = sinks}, {&sequence}, {&cache}, 2097);
        const auto out = pass(shape, variant, {&sequence}, {&cache}, 3);
        test::expect_same_bits(out[0], std::span(once).last(out[0].size()), "last rows");
      }
  }
}

TEST(GqaAttention, SequencesOfABatchDoNotSeeEachOther) {
  test::Random random(4);
  for (std::int64_t window : {0, 9}) {
    const GqaShape shape{6, 2, 24, 16, window};
    const Sequence a = random_sequence(random, shape, 45), b = random_sequence(random, shape, 31);
    const Sequence c = random_sequence(random, shape, 3);
    const Variant variant{.isa = active_isa(), .threads = 3, .sinks = random.normals(6)};
    KvCache cache_a = cache_for(shape, Dtype::bf16), cache_b = cache_for(shape, Dtype::bf16),
            cache_c = cache_for(shape, Dtype::bf16);
    std::vector<Floats> together(3);
    for (std::int64_t rows : {7, 1, 20, 12, 5}) {
      const auto out = pass(shape, variant, {&a, &b, &c}, {&cache_a, &cache_b, &cache_c}, rows);
      for (std::size_t i = 0; i < 3; ++i) together[i].insert(together[i].end(), out[i].begin(), out[i].end());
    }
    test::expect_same_bits(together[0], run(shape, variant, a), "first");
    test::expect_same_bits(together[1], run(shape, variant, b), "second");
    test::expect_same_bits(together[2], run(shape, variant, c), "third");
  }
}

TEST(GqaAttention, WindowNoShorterThanTheSequenceSeesAll) {
  test::Random random(5);
  GqaShape shape{6, 3, 24, 16, 0};
  const Sequence sequence = random_sequence(random, shape, 50);
  const Floats all = run(shape, {.isa = active_isa()}, sequence);
  for (std::int64_t window : {50, 51, 1000}) {
    shape.window = window;
    test::expect_same_bits(run(shape, {.isa = active_isa()}, sequence, {3, 8}), all, "window");
  }
}

TEST(GqaAttention, SinkOfMinusInfinityIsNoSink) {
  test::Random random(6);
  const float inf = std::numeric_limits<float>::infinity();
  for (const GqaShape& shape : shapes)
    for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
      const Sequence sequence = random_sequence(random, shape, 30);
      for (Isa isa : test::present_tiers()) {
        const Floats want = run(shape, {.isa = isa, .rounding = rounding}, sequence);
        const Variant variant{
            .isa = isa, .rounding = rounding, .sinks = Floats(static_cast<std::size_t>(shape.heads), -inf)};
        test::expect_same_bits(run(shape, variant, sequence), want, name_of(isa).data());
      }
    }
}

// Equal scores: the weights are 1 / (n + e^(sink - score)), so values of 1 show the sum.
TEST(GqaAttention, SinkTakesItsShareUnscaled) {
  const GqaShape shape{1, 1, 16, 16, 0};
  const Sequence sequence{Floats(16 * 3, 0.5f), Floats(16 * 3, 1.0f), Floats(16 * 3, 1.0f), 3};  // score 8 / 4 = 2
  for (Isa isa : test::present_tiers()) {
    const Floats out = run(shape, {.isa = isa, .sinks = {3.0f}}, sequence);
    for (std::int64_t i = 0; i < 3; ++i) {
      const double n = static_cast<double>(i + 1), want = n / (n + std::exp(1.0));
      EXPECT_NEAR(out[static_cast<std::size_t>(i * 16)], want, 20 * test::f32_unit);
    }
  }
}

// One head, two keys, every rounding written out. Transformers: matmul, times scale, sink, minus max, softmax, matmul.
TEST(GqaAttention, RoundsEachStepInHf) {
  const auto r = [](float value) { return round_to_bf16(value); };
  const GqaShape shape{1, 1, 3, 2, 0};
  const Sequence sequence{{1, 1, 1, 1.0078125f, -0.75f, 2.015625f},
                          {0.5f, 0.25f, 1.5f, 1.2578125f, 0.3359375f, 0.9140625f},
                          {1.0078125f, 3, -2, 0.7109375f},
                          2};
  const float scale = 1 / std::sqrt(3.0f), sink = 0.4140625f;
  float score[2];
  for (std::size_t j = 0; j < 2; ++j) {
    float dot = 0;
    for (std::size_t e = 0; e < 3; ++e) dot += sequence.q[3 + e] * sequence.k[3 * j + e];
    score[j] = r(r(dot) * scale);
  }
  const float most = std::max({score[0], score[1], sink});
  for (Rounding shift : {Rounding::bf16, Rounding::none}) {
    const auto weight = [&](float x) { return std::exp(shift == Rounding::bf16 ? r(x - most) : x - most); };
    const float p0 = weight(score[0]), p1 = weight(score[1]), sum = p0 + p1 + weight(sink);
    const float w0 = r(p0 / sum), w1 = r(p1 / sum);
    for (Isa isa : test::present_tiers()) {
      const Floats out =
          run(shape, {.isa = isa, .rounding = Rounding::bf16, .sinks = {sink}, .shift = shift}, sequence);
      EXPECT_EQ(out[2], r(w0 * sequence.v[0] + w1 * sequence.v[2]));
      EXPECT_EQ(out[3], r(w0 * sequence.v[1] + w1 * sequence.v[3]));
    }
  }
}

TEST(GqaAttention, NanReachesTheRowsThatSeeIt) {
  test::Random random(7);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const GqaShape shape{2, 1, 24, 20, 4};
  for (Isa isa : test::present_tiers())
    for (Rounding rounding : {Rounding::none, Rounding::bf16}) {
      Sequence sequence = random_sequence(random, shape, 20);
      sequence.k[24 * 5 + 3] = nan;        // rows 5 to 8 see it
      sequence.q[24 * 2 * 12 + 24] = nan;  // row 12, second head
      const Floats out = run(shape, {.isa = isa, .rounding = rounding, .sinks = {0, 0}}, sequence, {3, 4});
      for (std::size_t i = 0; i < out.size(); ++i) {
        const std::size_t row = i / 40, head = i / 20 % 2;
        EXPECT_EQ(std::isnan(out[i]), (row >= 5 && row <= 8) || (row == 12 && head == 1)) << row << " " << head;
      }
    }
}

TEST(GqaAttention, RefusesWhatContradicts) {
  const GqaShape good{4, 2, 8, 8, 0};
  EXPECT_NO_THROW(make(good, {}));
  EXPECT_THROW(make({4, 3, 8, 8, 0}, {}), Error);
  EXPECT_THROW(make({4, 2, 0, 8, 0}, {}), Error);
  EXPECT_THROW(make({4, 2, 8, 8, -1}, {}), Error);
  EXPECT_THROW(make(good, {.cache = Dtype::f16}), Error);
  EXPECT_THROW(make(good, {.sinks = {1, 2, 3}}), Error);
  EXPECT_THROW(make(good, {.max_context = 0}), Error);
  test::Random random(8);
  const Sequence sequence = random_sequence(random, good, 10);
  EXPECT_THROW(run(good, {.max_context = 9}, sequence), Error);
  KvCache other = cache_for(good, Dtype::f32);
  EXPECT_THROW(pass(good, {}, {&sequence}, {&other}, 10), Error);
}

}  // namespace
}  // namespace millrace
