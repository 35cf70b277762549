#include "runtime/kv_cache.h"

#include <gtest/gtest.h>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/key_panels.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;

float element(Dtype dtype, const std::byte* data, std::int64_t index) {
  if (dtype == Dtype::f32) return reinterpret_cast<const float*>(data)[index];
  return bf16_to_f32(reinterpret_cast<const Bfloat16*>(data)[index]);
}

// What the cache ought to hold: all rows ever written, as plain arrays.
struct Reference {
  LayerKvShape shape;
  Floats keys, values;  // (rows, kv_heads, width)

  float key(std::int64_t row, std::int64_t head, std::int64_t e) const {
    return keys[static_cast<std::size_t>((row * shape.kv_heads + head) * shape.qk_dim + e)];
  }
  float value(std::int64_t row, std::int64_t head, std::int64_t e) const {
    return values[static_cast<std::size_t>((row * shape.kv_heads + head) * shape.v_dim + e)];
  }
};

void expect_run(const KvRun& run, const Reference& reference, Dtype dtype) {
  const LayerKvShape& shape = reference.shape;
  const auto round = [&](float x) { return dtype == Dtype::f32 ? x : round_to_bf16(x); };
  for (std::int64_t row = run.begin; row < run.end; ++row)
    for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
      for (std::int64_t e = 0; e < shape.qk_dim; ++e)
        ASSERT_EQ(element(dtype, run.keys + head * run.key_head_stride,
                          KeyPanels::element(shape.qk_dim, size_of(dtype), run.place + row - run.begin, e)),
                  round(reference.key(row, head, e)))
            << row << " " << head << " " << e;
      for (std::int64_t e = 0; e < shape.v_dim; ++e)
        ASSERT_EQ(element(dtype, run.values + head * run.value_head_stride, (row - run.begin) * shape.v_dim + e),
                  round(reference.value(row, head, e)))
            << row << " " << head << " " << e;
    }
}

// Rows [begin, end) through run_at, each run starting where the previous one ended.
void expect_rows(const KvCache& cache, int layer, const Reference& reference, std::int64_t begin, std::int64_t end) {
  while (begin < end) {
    const KvRun run = cache.run_at(layer, begin, end);
    ASSERT_EQ(run.begin, begin);
    ASSERT_GT(run.end, begin);
    ASSERT_LE(run.end, end);
    expect_run(run, reference, cache.dtype());
    begin = run.end;
  }
}

const std::vector<LayerKvShape> layers = {{2, 6, 4, 0}, {3, 5, 7, 8}, {1, 4, 4, 1}, {1, 3, 2, 300}, {1, 2, 2, 5000}};

TEST(KvCache, HoldsWhatAPlainArrayHolds) {
  for (Dtype dtype : {Dtype::bf16, Dtype::f32}) {
    test::Random random(1);
    KvCache cache(layers, dtype, 1000);
    std::vector<Reference> references;
    for (const LayerKvShape& shape : layers) references.push_back({shape, {}, {}});
    for (std::int64_t rows : {1, 3, 250, 1, 1, 8, 9, 300, 7, 256, 1, 100}) {
      cache.reserve(cache.length() + rows);
      for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        Reference& reference = references[layer];
        const LayerKvShape& shape = layers[layer];
        const Floats keys = random.normals(rows * shape.kv_heads * shape.qk_dim);
        const Floats values = random.normals(rows * shape.kv_heads * shape.v_dim);
        cache.write(static_cast<int>(layer), cache.length(), rows, keys.data(), values.data());
        reference.keys.insert(reference.keys.end(), keys.begin(), keys.end());
        reference.values.insert(reference.values.end(), values.begin(), values.end());
      }
      cache.advance(rows);
      for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        const std::int64_t window = layers[layer].window;
        const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, cache.length() - window) : 0;
        expect_rows(cache, static_cast<int>(layer), references[layer], first, cache.length());
        expect_rows(cache, static_cast<int>(layer), references[layer], (first + cache.length()) / 2, cache.length());
      }
    }
    EXPECT_EQ(cache.length(), 937);
  }
}

TEST(KvCache, RunsEndAtPagesAndAtTheEndOfTheRing) {
  KvCache cache(layers, Dtype::f32, 1000);
  cache.reserve(1000);
  EXPECT_EQ(cache.run_at(0, 0, 1000).end, 256);
  EXPECT_EQ(cache.run_at(0, 255, 1000).end, 256);
  EXPECT_EQ(cache.run_at(0, 256, 300).end, 300);
  EXPECT_EQ(cache.run_at(1, 20, 28).end, 24);  // a ring of 8 rows and the slack
  EXPECT_EQ(cache.run_at(1, 24, 28).end, 28);
  EXPECT_EQ(cache.run_at(4, 0, 1000).end, 1000);  // a window beyond the capacity is a ring of the capacity
}

TEST(KvCache, TakesTheMemoryItAnnounces) {
  for (Dtype dtype : {Dtype::bf16, Dtype::f32})
    for (std::int64_t rows : {1, 255, 256, 257, 1000}) {
      KvCache cache(layers, dtype, rows);
      cache.reserve(rows);
      EXPECT_EQ(cache.bytes(), KvCache::bytes_for(layers, dtype, rows)) << rows;
    }
}

TEST(KvCache, GrowsByPagesAndKeepsThemWhenCleared) {
  const std::vector<LayerKvShape> one = {{1, 1, 1, 0}};
  KvCache cache(one, Dtype::bf16, 1000);
  EXPECT_EQ(cache.bytes(), 0u);
  cache.reserve(1);
  const std::size_t page = cache.bytes();
  cache.reserve(256);
  EXPECT_EQ(cache.bytes(), page);
  cache.reserve(257);
  EXPECT_EQ(cache.bytes(), 2 * page);
  cache.reserve(3);
  cache.advance(3);
  cache.clear();
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.bytes(), 2 * page);
}

// Writes rows as KvCache's users do, and to the reference what a cache cut back to `length` ought to hold.
void append(KvCache& cache, std::vector<Reference>& references, test::Random& random, std::int64_t rows) {
  cache.reserve(cache.length() + rows);
  for (std::size_t layer = 0; layer < references.size(); ++layer) {
    Reference& reference = references[layer];
    const LayerKvShape& shape = reference.shape;
    const Floats keys = random.normals(rows * shape.kv_heads * shape.qk_dim);
    const Floats values = random.normals(rows * shape.kv_heads * shape.v_dim);
    cache.write(static_cast<int>(layer), cache.length(), rows, keys.data(), values.data());
    reference.keys.resize(static_cast<std::size_t>(cache.length() * shape.kv_heads * shape.qk_dim));
    reference.values.resize(static_cast<std::size_t>(cache.length() * shape.kv_heads * shape.v_dim));
    reference.keys.insert(reference.keys.end(), keys.begin(), keys.end());
    reference.values.insert(reference.values.end(), values.begin(), values.end());
  }
}

TEST(KvCache, HoldsWhatTheNextRowSeesAfterEveryCut) {
  test::Random random(3);
  KvCache cache(layers, Dtype::f32, 1000);
  std::vector<Reference> references;
  for (const LayerKvShape& shape : layers) references.push_back({shape, {}, {}});
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    append(cache, references, random, 1 + random.below(i % 7 == 0 ? 40 : 5));
    if (i % 5 != 0) cache.advance(std::ssize(references[4].keys) / 2 - cache.length());  // else the pass failed
    const std::int64_t cut = cache.length() - random.below(i % 3 == 0 ? 60 : 8);
    if (cache.can_truncate(cut))
      cache.truncate(cut);
    else
      refused += cut >= 0 ? 1 : 0;
    if (!cache.can_truncate(cache.length())) cache.clear();
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      const std::int64_t window = layers[layer].window;
      const std::int64_t first = window > 0 ? std::max<std::int64_t>(0, cache.length() - window) : 0;
      expect_rows(cache, static_cast<int>(layer), references[layer], first, cache.length());
    }
    if (cache.length() > 900) cache.clear();
  }
  EXPECT_GT(refused, 10);
}

TEST(KvCache, CutsBackTheSlack) {
  const std::vector<LayerKvShape> one = {{1, 1, 1, 0}, {1, 1, 1, 9}, {1, 1, 1, 1}};
  const std::int64_t slack = KvCache::ring_slack, end = 500;
  KvCache cache(one, Dtype::bf16, 1000);
  cache.reserve(end);
  const Floats rows(static_cast<std::size_t>(end));
  for (int layer : {0, 1, 2}) cache.write(layer, 0, end, rows.data(), rows.data());
  EXPECT_FALSE(cache.can_truncate(end));  // not advanced
  cache.advance(end);
  EXPECT_TRUE(cache.can_truncate(end));
  EXPECT_TRUE(cache.can_truncate(end - slack));
  EXPECT_FALSE(cache.can_truncate(end - slack - 1));
  EXPECT_FALSE(cache.can_truncate(end + 1));
  EXPECT_FALSE(cache.can_truncate(-1));
  EXPECT_TRUE(cache.can_truncate(0));
  EXPECT_THROW(cache.truncate(100), Error);
  EXPECT_EQ(cache.length(), end);
  // Once more rows were taken back, the ring holds fewer.
  cache.truncate(end - 10);
  EXPECT_TRUE(cache.can_truncate(end - slack));
  EXPECT_FALSE(cache.can_truncate(end - slack - 1));
  const std::vector<LayerKvShape> full = {{1, 1, 1, 0}};
  KvCache pages(full, Dtype::bf16, 1000);
  pages.reserve(end);
  pages.advance(end);
  EXPECT_TRUE(pages.can_truncate(3));
}

TEST(KvCache, RefusesWhatDoesNotFit) {
  KvCache cache(layers, Dtype::bf16, 100);
  EXPECT_NO_THROW(cache.reserve(100));
  EXPECT_THROW(cache.reserve(101), Error);
  EXPECT_THROW(KvCache(layers, Dtype::f16, 100), Error);
  EXPECT_THROW(KvCache(layers, Dtype::f32, 0), Error);
}

TEST(KvRows, StagedBlockReadsLikeTheCache) {
  test::Random random(2);
  const LayerKvShape shape{2, 3, 5, 4};
  const Reference reference{shape, random.normals(10 * 6), random.normals(10 * 10)};
  Buffer block(kv_block_bytes(shape, Dtype::bf16, 10), "block");
  store_kv_rows(shape, Dtype::bf16, 10, 0, 4, reference.keys.data(), reference.values.data(), block.data());
  store_kv_rows(shape, Dtype::bf16, 10, 4, 6, reference.keys.data() + 4 * 6, reference.values.data() + 4 * 10,
                block.data());
  expect_run(run_of_block(shape, Dtype::bf16, 10, block.data(), 0, 2, 9), reference, Dtype::bf16);
  // The block's first row may be any row of the sequence.
  const KvRun later = run_of_block(shape, Dtype::bf16, 10, block.data(), 70, 72, 79);
  EXPECT_EQ(later.values, run_of_block(shape, Dtype::bf16, 10, block.data(), 0, 2, 9).values);
  EXPECT_EQ(later.place, 2);
  EXPECT_EQ(later.begin, 72);
  EXPECT_EQ(later.end, 79);
}

TEST(KeyPanels, SixteenRowsSideBySide) {
  // Rows of 3 elements: two words in bf16, three in fp32.
  EXPECT_EQ(KeyPanels::panel_bytes(3, 2), 128);
  EXPECT_EQ(KeyPanels::panel_bytes(3, 4), 192);
  EXPECT_EQ(KeyPanels::bytes(17, 3, 2), 256);
  EXPECT_EQ(KeyPanels::element(3, 2, 5, 1), 11);
  EXPECT_EQ(KeyPanels::element(3, 2, 5, 2), 32 + 10);
  EXPECT_EQ(KeyPanels::element(3, 2, 21, 2), 64 + 32 + 10);
  EXPECT_EQ(KeyPanels::element(3, 4, 21, 2), 48 + 32 + 5);
}

TEST(KvCache, CopiesOfRowsAreRowAfterRow) {
  for (Dtype dtype : {Dtype::bf16, Dtype::f32}) {
    test::Random random(4);
    const std::vector<LayerKvShape> one = {{2, 5, 3, 0}, {2, 5, 3, 300}};
    KvCache cache(one, dtype, 700), again(one, dtype, 700);
    Reference reference{one[0], random.normals(600 * 10), random.normals(600 * 6)};
    for (KvCache* of : {&cache, &again}) of->reserve(600);
    for (int layer : {0, 1}) {
      cache.write(layer, 0, 600, reference.keys.data(), reference.values.data());
      again.begin_with(layer, 290);
      for (const KvCache::Part part : {KvCache::Part::keys, KvCache::Part::values})
        for (std::int64_t head : {0, 1}) {
          const std::int64_t width = part == KvCache::Part::keys ? 5 : 3, first = layer == 0 ? 0 : 290;
          std::vector<std::byte> rows(static_cast<std::size_t>((600 - first) * width * size_of(dtype)));
          cache.copy_rows(layer, part, head, first, 600, rows.data());
          const float want =
              part == KvCache::Part::keys ? reference.key(first + 7, head, 4) : reference.value(first + 7, head, 2);
          EXPECT_EQ(element(dtype, rows.data(), 8 * width - 1), dtype == Dtype::f32 ? want : round_to_bf16(want));
          again.take_rows(layer, part, head, first, 600, rows.data());
        }
    }
    cache.advance(600);
    again.advance(600);
    expect_rows(again, 0, reference, 0, 600);
    expect_rows(again, 1, reference, 300, 600);
  }
}

}  // namespace
}  // namespace millrace
