// The scratch memory of gqa_attention: what each worker needs, the sums of shared blocks, and new rows of a ring.
#include <algorithm>

#include "ops/gqa_attention.h"

namespace millrace {

namespace {

constexpr std::int64_t most_tile_rows = 32, tile_queries = 128;  // what a task loads is shared by so many
constexpr std::int64_t rounded_scores = 1 << 20;  // of a tile with Rounding::bf16, which keeps all of them

}  // namespace

GqaAttention::Worker GqaAttention::worker_layout(std::int64_t tile_rows, std::int64_t visible, std::int64_t runs,
                                                 std::int64_t bias) const noexcept {
  // Whole vectors, beginning at a multiple of 16; not a power of two, which would crowd a few sets of the cache.
  const std::int64_t stride = (options_.rounding == Rounding::none ? gqa_block : visible / 16 * 16) + 48;
  const std::int64_t floats = GqaScratch::floats(tile_rows * group_, stride, options_.kv.qk_dim, options_.kv.v_dim);
  const std::size_t runs_at = Buffer::aligned(static_cast<std::size_t>(floats) * sizeof(float));
  const std::size_t bias_at = runs_at + Buffer::aligned(static_cast<std::size_t>(runs) * sizeof(GqaRun));
  return {tile_rows, stride, runs_at, bias_at,
          bias_at + Buffer::aligned(static_cast<std::size_t>(bias) * sizeof(float))};
}

GqaAttention::Worker GqaAttention::plain_layout() const noexcept {
  const std::int64_t window = options_.kv.window, context = options_.max_context;
  std::int64_t rows = std::clamp<std::int64_t>(tile_queries / group_, 1, most_tile_rows);
  if (options_.rounding == Rounding::bf16)
    rows = std::clamp<std::int64_t>(rounded_scores / (group_ * (window > 0 ? std::min(window, context) : context)), 1,
                                    rows);
  // A ring is at most two runs, the rows of the pass are a third.
  const std::int64_t runs = window > 0 ? 3 : (context + KvCache::page_rows - 1) / KvCache::page_rows;
  return worker_layout(rows, window > 0 ? std::min(window + rows, context) : context, runs, 0);
}

// For masks, which may show any rows, at worst every second one, and for all scores of a row.
GqaAttention::Worker GqaAttention::exact_layout(std::int64_t visible) const noexcept {
  Worker layout = worker_layout(1, visible, visible / 2 + visible / KvCache::page_rows + 4, visible);
  const std::int64_t missing = visible - layout.stride + 16;
  if (missing <= 0) return layout;
  layout.stride += missing;
  const std::size_t more = Buffer::aligned(static_cast<std::size_t>(missing * group_) * sizeof(float));
  return {1, layout.stride, layout.runs_at + more, layout.bias_at + more, layout.bytes + more};
}

std::size_t GqaAttention::staged_bytes(std::int64_t rows) const noexcept {
  return options_.kv.window == 0 ? 0 : Buffer::aligned(kv_block_bytes(options_.kv, options_.cache, rows));
}

std::int64_t GqaAttention::most_blocks() const noexcept {
  const std::int64_t window = options_.kv.window;
  if (window > 0) return std::min(window, options_.max_context) / gqa_block + 3;
  return (options_.max_context + gqa_block - 1) / gqa_block;
}

// Memory for the sums of every block of a few rows.
std::size_t GqaAttention::block_bytes(std::int64_t rows, int threads) const noexcept {
  if (threads == 1 || options_.rounding != Rounding::none || most_blocks() < least_split_blocks) return 0;
  const std::int64_t queries = std::min(rows, most_split_rows) * options_.heads;
  return Buffer::aligned(static_cast<std::size_t>(most_blocks() * GqaSums::floats(queries, options_.kv.v_dim)) *
                         sizeof(float));
}

std::size_t GqaAttention::scratch_bytes(std::int64_t rows, int threads) const {
  return staged_bytes(rows) + block_bytes(rows, threads) + static_cast<std::size_t>(threads) * plain_layout().bytes;
}

}  // namespace millrace
