#include "runtime/kv_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/key_panels.h"

namespace millrace {
namespace {

void store(const float* source, std::int64_t count, Dtype dtype, std::byte* target) {
  if (dtype == Dtype::f32) {
    std::memcpy(target, source, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* out = reinterpret_cast<Bfloat16*>(target);
  for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_from_f32(source[i]);
}

// Words of a row to their lines of a panel.
void store_key(const float* source, std::int64_t dim, Dtype dtype, std::byte* panel) {
  if (dtype == Dtype::f32) {
    for (std::int64_t e = 0; e < dim; ++e) std::memcpy(panel + e * KeyPanels::line, source + e, sizeof(float));
    return;
  }
  for (std::int64_t e = 0; e < dim; e += 2, panel += KeyPanels::line) {
    const Bfloat16 word[2] = {bf16_from_f32(source[e]), bf16_from_f32(e + 1 < dim ? source[e + 1] : 0.0f)};
    std::memcpy(panel, word, sizeof word);
  }
}

// Bytes of the keys of one head of a block.
std::int64_t key_bytes(const LayerKvShape& shape, Dtype dtype, std::int64_t block_rows) {
  return KeyPanels::bytes(block_rows, shape.qk_dim, size_of(dtype));
}

// Rows of a window layer's ring in a sequence of at most `rows` rows.
std::int64_t rows_of_ring(const LayerKvShape& shape, std::int64_t rows) {
  return shape.window < rows ? std::min(shape.window + KvCache::ring_slack, rows) : rows;
}

}  // namespace

std::size_t kv_block_bytes(const LayerKvShape& shape, Dtype dtype, std::int64_t rows) noexcept {
  return static_cast<std::size_t>(shape.kv_heads *
                                  (key_bytes(shape, dtype, rows) + rows * shape.v_dim * size_of(dtype)));
}

void store_kv_rows(const LayerKvShape& shape, Dtype dtype, std::int64_t block_rows, std::int64_t at, std::int64_t rows,
                   const float* keys, const float* values, std::byte* block) noexcept {
  const std::int64_t size = size_of(dtype), head_bytes = key_bytes(shape, dtype, block_rows);
  std::byte* value_block = block + shape.kv_heads * head_bytes;
  for (std::int64_t head = 0; head < shape.kv_heads; ++head)
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t source = row * shape.kv_heads + head;
      store_key(keys + source * shape.qk_dim, shape.qk_dim, dtype,
                block + head * head_bytes + KeyPanels::element(shape.qk_dim, size, at + row, 0) * size);
      store(values + source * shape.v_dim, shape.v_dim, dtype,
            value_block + (head * block_rows + at + row) * shape.v_dim * size);
    }
}

KvRun run_of_block(const LayerKvShape& shape, Dtype dtype, std::int64_t block_rows, const std::byte* block,
                   std::int64_t first, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t size = size_of(dtype), head_bytes = key_bytes(shape, dtype, block_rows);
  return {.begin = begin,
          .end = end,
          .keys = block,
          .place = begin - first,
          .values = block + shape.kv_heads * head_bytes + (begin - first) * shape.v_dim * size,
          .key_head_stride = head_bytes,
          .value_head_stride = block_rows * shape.v_dim * size};
}

// Blocks cut out of one buffer.
class KvCache::Blocks {
 public:
  explicit Blocks(std::size_t bytes) : memory_(std::make_shared<Buffer>(bytes, "KV cache")) {}

  std::shared_ptr<Block> take(std::size_t bytes) {
    std::byte* data = memory_->data() + used_;
    used_ += Buffer::aligned(bytes);
    return std::make_shared<Block>(Block{memory_, data});
  }
  std::shared_ptr<Block> copy_of(const Block& block, std::size_t bytes) {
    auto copy = take(bytes);
    std::memcpy(copy->data, block.data, bytes);
    return copy;
  }

 private:
  std::shared_ptr<Buffer> memory_;
  std::size_t used_ = 0;
};

KvCache::KvCache(std::span<const LayerKvShape> layers, Dtype dtype, std::int64_t capacity)
    : dtype_(dtype), capacity_(capacity) {
  require(dtype == Dtype::bf16 || dtype == Dtype::f32, Errc::bad_argument, "a KV cache of {}, expected BF16 or F32",
          name_of(dtype));
  require(capacity > 0, Errc::bad_argument, "a KV cache of {} rows", capacity);
  for (const LayerKvShape& shape : layers) {
    Layer& layer = layers_.emplace_back();
    layer.shape = shape;
    layer.block_rows = shape.window > 0 ? rows_of_ring(shape, capacity) : page_rows;
  }
  Blocks rings(ring_bytes());
  for (Layer& layer : layers_)
    if (layer.shape.window > 0) layer.blocks.push_back(rings.take(block_bytes(layer)));
}

KvCache KvCache::fork() const {
  KvCache copy(*this);
  Blocks rings(ring_bytes());
  for (Layer& layer : copy.layers_)
    if (layer.shape.window > 0) layer.blocks[0] = rings.copy_of(*layer.blocks[0], block_bytes(layer));
  return copy;
}

std::size_t KvCache::block_bytes(const Layer& layer) const noexcept {
  return kv_block_bytes(layer.shape, dtype_, layer.block_rows);
}

// Of all rings, side by side.
std::size_t KvCache::ring_bytes() const noexcept {
  std::size_t sum = 0;
  for (const Layer& layer : layers_)
    if (layer.shape.window > 0) sum += Buffer::aligned(block_bytes(layer));
  return sum;
}

bool KvCache::has_rings() const noexcept {
  return std::any_of(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.shape.window > 0; });
}

std::size_t KvCache::bytes() const noexcept {
  std::size_t sum = 0;
  for (const Layer& layer : layers_) sum += layer.blocks.size() * block_bytes(layer);
  return sum;
}

std::size_t KvCache::bytes_for(std::span<const LayerKvShape> layers, Dtype dtype, std::int64_t rows) {
  std::size_t sum = 0;
  for (const LayerKvShape& shape : layers) {
    const std::int64_t pages = (rows + page_rows - 1) / page_rows;
    sum += kv_block_bytes(shape, dtype, shape.window > 0 ? rows_of_ring(shape, rows) : pages * page_rows);
  }
  return sum;
}

void KvCache::reserve(std::int64_t rows) {
  require(rows <= capacity_, Errc::bad_argument, "a sequence of {} tokens, the context holds {}", rows, capacity_);
  const auto pages = static_cast<std::size_t>((rows + page_rows - 1) / page_rows);
  const auto first_written = static_cast<std::size_t>(length_ / page_rows);
  const auto lacks = [](const Layer& layer, std::size_t page) {
    return page >= layer.blocks.size() || layer.blocks[page].use_count() > 1;
  };
  std::size_t missing = 0;
  for (const Layer& layer : layers_)
    for (std::size_t page = first_written; layer.shape.window == 0 && page < pages; ++page)
      if (lacks(layer, page)) missing += Buffer::aligned(block_bytes(layer));
  if (missing == 0) return;
  Blocks fresh(missing);
  for (Layer& layer : layers_)
    for (std::size_t page = first_written; layer.shape.window == 0 && page < pages; ++page) {
      if (!lacks(layer, page)) continue;
      if (page < layer.blocks.size())
        layer.blocks[page] = fresh.copy_of(*layer.blocks[page], block_bytes(layer));
      else
        layer.blocks.push_back(fresh.take(block_bytes(layer)));
    }
}

void KvCache::write(int index, std::int64_t first_row, std::int64_t rows, const float* keys,
                    const float* values) noexcept {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  const LayerKvShape& shape = layer.shape;
  const std::int64_t end = first_row + rows;
  const bool ring = shape.window > 0;
  for (std::int64_t row = ring ? std::max(first_row, end - layer.block_rows) : first_row; row < end;) {
    const std::int64_t at = row % layer.block_rows;
    const std::int64_t count = std::min(end - row, layer.block_rows - at);
    const Block& block = *layer.blocks[ring ? 0 : static_cast<std::size_t>(row / layer.block_rows)];
    store_kv_rows(shape, dtype_, layer.block_rows, at, count, keys + (row - first_row) * shape.kv_heads * shape.qk_dim,
                  values + (row - first_row) * shape.kv_heads * shape.v_dim, block.data);
    row += count;
  }
  if (ring) layer.ring_end = std::max(layer.ring_end, end);
}

std::int64_t KvCache::first_held(int index) const noexcept {
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  return layer.shape.window > 0 ? std::clamp<std::int64_t>(layer.ring_end - layer.block_rows, 0, length_) : 0;
}

// body(memory, at, bytes) for the parts of a copy of rows [row, end), `at` being their place in the copy.
template <class Body>
void KvCache::for_parts(int index, Part part, std::int64_t head, std::int64_t row, std::int64_t end,
                        Body&& body) const noexcept {
  const std::int64_t size = size_of(dtype_), qk_dim = shape(index).qk_dim, value_bytes = shape(index).v_dim * size;
  for (std::int64_t begin = row; begin < end;) {
    const KvRun run = run_at(index, begin, end);
    const std::int64_t before = begin - row, rows = run.end - run.begin;
    const std::byte* panels = run.keys + head * run.key_head_stride;
    if (part == Part::values)
      body(run.values + head * run.value_head_stride, before * value_bytes, rows * value_bytes);
    else
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t e = 0; e < qk_dim; ++e)
          body(panels + KeyPanels::element(qk_dim, size, run.place + r, e) * size, ((before + r) * qk_dim + e) * size,
               size);
    begin = run.end;
  }
}

void KvCache::copy_rows(int index, Part part, std::int64_t head, std::int64_t row, std::int64_t end,
                        std::byte* target) const noexcept {
  for_parts(index, part, head, row, end, [target](const std::byte* memory, std::int64_t at, std::int64_t bytes) {
    std::memcpy(target + at, memory, static_cast<std::size_t>(bytes));
  });
}

void KvCache::take_rows(int index, Part part, std::int64_t head, std::int64_t row, std::int64_t end,
                        const std::byte* source) noexcept {
  for_parts(index, part, head, row, end, [source](const std::byte* memory, std::int64_t at, std::int64_t bytes) {
    std::memcpy(const_cast<std::byte*>(memory), source + at, static_cast<std::size_t>(bytes));
  });
}

void KvCache::begin_with(int index, std::int64_t first_row) noexcept {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  layer.ring_end = first_row + layer.block_rows;
}

bool KvCache::can_truncate(std::int64_t rows) const noexcept {
  if (rows <= 0 || rows > length_) return rows == 0;
  return std::all_of(layers_.begin(), layers_.end(), [rows](const Layer& layer) {
    const std::int64_t first_kept = std::max<std::int64_t>(0, rows - layer.shape.window);
    return layer.shape.window == 0 || first_kept >= layer.ring_end - layer.block_rows;
  });
}

void KvCache::truncate(std::int64_t rows) {
  require(can_truncate(rows), Errc::bad_argument, "a cache of {} rows cannot be cut back to {}", length_, rows);
  length_ = rows;
  if (rows == 0) clear();
}

void KvCache::clear() noexcept {
  length_ = 0;
  for (Layer& layer : layers_) layer.ring_end = 0;
}

KvRun KvCache::run_at(int index, std::int64_t row, std::int64_t end) const noexcept {
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  const bool ring = layer.shape.window > 0;
  const std::int64_t at = row % layer.block_rows;
  const Block& block = *layer.blocks[ring ? 0 : static_cast<std::size_t>(row / layer.block_rows)];
  return run_of_block(layer.shape, dtype_, layer.block_rows, block.data, row - at, row,
                      std::min(end, row - at + layer.block_rows));
}

}  // namespace millrace
