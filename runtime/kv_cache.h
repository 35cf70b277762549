// KvCache: keys and values of one sequence, layer by layer. Full layers grow in pages; sliding-window layers are rings
// of the window's size and some slack. Keys are stored after the rotary embedding and lie in panels (key_panels.h),
// values are stored after the value scale. The pages of all layers that are taken at a time are pieces of one buffer,
// so that they lie on huge pages together. Owned by one session; used by one thread at a time. Forks share pages: a
// cache and its forks belong to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/dtype.h"

namespace millrace {

struct LayerKvShape {
  std::int64_t kv_heads = 0;
  std::int64_t qk_dim = 0;  // width of a key
  std::int64_t v_dim = 0;   // width of a value
  std::int64_t window = 0;  // keys a query sees, itself included; 0 = all

  std::int64_t row_elements() const noexcept { return kv_heads * (qk_dim + v_dim); }
};

// Consecutive rows of a sequence in consecutive memory. Element type: the cache's dtype.
struct KvRun {
  std::int64_t begin = 0, end = 0;    // rows of the sequence
  const std::byte* keys = nullptr;    // panels of kv head 0
  std::int64_t place = 0;             // of row `begin` in them
  const std::byte* values = nullptr;  // row `begin` of kv head 0; rows are v_dim elements apart
  std::int64_t key_head_stride = 0;   // bytes from one kv head to the next
  std::int64_t value_head_stride = 0;
};

class KvCache {
 public:
  static constexpr std::int64_t page_rows = 256;
  // Rows that a ring holds beyond its window: so many of the last rows can be taken back (rejected speculation).
  static constexpr std::int64_t ring_slack = 16;

  // `dtype` is bf16 or f32; `capacity` is the largest number of rows the sequence may reach.
  KvCache(std::span<const LayerKvShape> layers, Dtype dtype, std::int64_t capacity);
  KvCache(KvCache&&) = default;
  KvCache& operator=(KvCache&&) = default;

  // A cache that holds the same rows. Pages are shared until one of the two writes to them, rings are copied.
  // Throws Error(out_of_memory).
  KvCache fork() const;

  std::int64_t length() const noexcept { return length_; }  // rows stored by completed passes
  std::int64_t capacity() const noexcept { return capacity_; }
  Dtype dtype() const noexcept { return dtype_; }
  std::size_t bytes() const noexcept;  // shared pages included
  std::size_t layers() const noexcept { return layers_.size(); }
  bool has_rings() const noexcept;
  const LayerKvShape& shape(int layer) const noexcept { return layers_[static_cast<std::size_t>(layer)].shape; }

  // Takes the memory for `rows` rows in all, the first length() of which stay as they are: pages behind them that a
  // fork shares are copied. Throws Error(bad_argument) beyond the capacity, Error(out_of_memory).
  void reserve(std::int64_t rows);

  // Stores rows [first_row, first_row + rows) of a layer, rounding to the cache's dtype. A window layer keeps the last
  // `window` of them and the slack. Several threads may store different rows of a layer without a window. keys: (rows,
  // kv_heads, qk_dim), values: (rows, kv_heads, v_dim).
  void write(int layer, std::int64_t first_row, std::int64_t rows, const float* keys, const float* values) noexcept;

  // The longest run that starts at `row`, which must be stored, and ends before `end`.
  KvRun run_at(int layer, std::int64_t row, std::int64_t end) const noexcept;

  // The first row that a layer holds of the first length(): 0 without a window, else at most length() - window.
  std::int64_t first_held(int layer) const noexcept;
  // Most rows that a window layer holds.
  std::int64_t ring_rows(int layer) const noexcept { return layers_[static_cast<std::size_t>(layer)].block_rows; }
  // Copies the stored keys, or values, of one head for rows [row, end) that a layer holds to or from (rows, width) in
  // the cache's dtype. The cache that takes over what another one held is empty and has memory for `end` rows; what its
  // layer holds begins with `first_row` then: the last rows, of a window layer at most ring_rows(). advance() follows
  // once every layer has its rows.
  enum class Part { keys, values };
  void copy_rows(int layer, Part part, std::int64_t head, std::int64_t row, std::int64_t end,
                 std::byte* target) const noexcept;
  void take_rows(int layer, Part part, std::int64_t head, std::int64_t row, std::int64_t end,
                 const std::byte* source) noexcept;
  void begin_with(int layer, std::int64_t first_row) noexcept;

  void advance(std::int64_t rows) noexcept { length_ += rows; }  // a pass over `rows` rows is complete

  // Whether the cache, cut back to its first `rows` rows (0 to length()), still holds the last `window` of them in
  // every window layer: so after at most ring_slack rows were written behind them, those of failed passes included.
  bool can_truncate(std::int64_t rows) const noexcept;
  // Forgets the rows from `rows` on; what follows is computed as if they had never been there. Takes no memory and
  // gives none back. Throws Error(bad_argument) unless can_truncate(rows).
  void truncate(std::int64_t rows);
  void clear() noexcept;

  // Bytes of a cache that holds `rows` rows.
  static std::size_t bytes_for(std::span<const LayerKvShape> layers, Dtype dtype, std::int64_t rows);

 private:
  // See kv_block_bytes().
  struct Block {
    std::shared_ptr<Buffer> memory;  // shared with the blocks that were taken with it
    std::byte* data = nullptr;
  };
  struct Layer {
    LayerKvShape shape;
    std::int64_t block_rows = 0;  // page_rows, or those of the ring
    std::int64_t ring_end = 0;    // behind the last row written since the ring was empty; it holds block_rows before it
    std::vector<std::shared_ptr<Block>> blocks;  // pages, or one ring
  };
  class Blocks;

  KvCache(const KvCache&) = default;  // shares every block

  std::size_t block_bytes(const Layer& layer) const noexcept;
  std::size_t ring_bytes() const noexcept;
  template <class Body>
  void for_parts(int layer, Part part, std::int64_t head, std::int64_t row, std::int64_t end,
                 Body&& body) const noexcept;

  std::vector<Layer> layers_;
  Dtype dtype_;
  std::int64_t capacity_;
  std::int64_t length_ = 0;
};

// Bytes of a block of `rows` rows: the panels of keys of each kv head, then values (kv_heads, rows, v_dim).
std::size_t kv_block_bytes(const LayerKvShape& shape, Dtype dtype, std::int64_t rows) noexcept;

// Converts and lays out rows as a cache block does, for a block of `block_rows` rows starting at row `at`. Several
// threads may store different rows of a block. Used by KvCache::write and by attention for the rows of the pass itself.
void store_kv_rows(const LayerKvShape& shape, Dtype dtype, std::int64_t block_rows, std::int64_t at, std::int64_t rows,
                   const float* keys, const float* values, std::byte* block) noexcept;

// `block` (of `block_rows` rows, the first being row `first` of the sequence) seen as a run of rows [begin, end).
KvRun run_of_block(const LayerKvShape& shape, Dtype dtype, std::int64_t block_rows, const std::byte* block,
                   std::int64_t first, std::int64_t begin, std::int64_t end) noexcept;

}  // namespace millrace
