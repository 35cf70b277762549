#include "apps/bench/made_up.h"

#include <algorithm>
#include <random>

namespace millrace {
namespace {

// A cache of `rows` rows of normally distributed keys and values, the same every 256 rows.
KvCache random_cache(const Engine& engine, std::int64_t rows) {
  const auto layers = engine.program().kv_layers();
  KvCache cache(layers, engine.kv_dtype(), engine.context());
  cache.reserve(rows);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const LayerKvShape& shape = layers[layer];
    constexpr std::int64_t block = KvCache::page_rows;
    std::vector<float> keys(static_cast<std::size_t>(block * shape.kv_heads * shape.qk_dim));
    std::vector<float> values(static_cast<std::size_t>(block * shape.kv_heads * shape.v_dim));
    for (std::vector<float>* block_of : {&keys, &values})
      for (float& value : *block_of) value = normal(generator);
    for (std::int64_t row = 0; row < rows; row += block)
      cache.write(static_cast<int>(layer), row, std::min(block, rows - row), keys.data(), values.data());
  }
  cache.advance(rows);
  return cache;
}

}  // namespace

std::vector<std::int32_t> made_up_tokens(const Engine& engine, std::int64_t count) {
  std::mt19937 generator(2);
  std::uniform_int_distribution<std::int32_t> id(0, static_cast<std::int32_t>(engine.config().vocab - 1));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::int32_t& value : ids) value = id(generator);
  return ids;
}

Session made_up_session(const std::shared_ptr<Executor>& executor, std::int64_t depth) {
  Session session(executor);
  const Engine& engine = session.engine();
  if (depth > 0) session.adopt(made_up_tokens(engine, depth), random_cache(engine, depth));
  return session;
}

}  // namespace millrace
