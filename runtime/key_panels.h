// How the keys of one head lie in a cache: in panels of 16 rows, so that attention takes the products of a query with
// 16 keys side by side. A word of 32 bits holds two consecutive elements of a row in bf16, or one in fp32; a panel is
// word 0 of its 16 rows, then word 1 of them, and so on, a line of 64 bytes each. The second half of the last word of
// rows with an odd number of elements means nothing. `size` is that of an element, 2 or 4 bytes.
#pragma once

#include <cstdint>

namespace millrace {

struct KeyPanels {
  static constexpr std::int64_t rows = 16;
  static constexpr std::int64_t line = rows * 4;

  static constexpr std::int64_t count(std::int64_t key_rows) noexcept { return (key_rows + rows - 1) / rows; }
  static constexpr std::int64_t words(std::int64_t dim, std::int64_t size) noexcept { return (dim * size + 3) / 4; }
  static constexpr std::int64_t panel_bytes(std::int64_t dim, std::int64_t size) noexcept {
    return words(dim, size) * line;
  }
  static constexpr std::int64_t bytes(std::int64_t key_rows, std::int64_t dim, std::int64_t size) noexcept {
    return count(key_rows) * panel_bytes(dim, size);
  }
  // Where element e of a row is, counting elements from the first panel on.
  static constexpr std::int64_t element(std::int64_t dim, std::int64_t size, std::int64_t row,
                                        std::int64_t e) noexcept {
    const std::int64_t of_word = 4 / size;
    return row / rows * panel_bytes(dim, size) / size + (e / of_word * rows + row % rows) * of_word + e % of_word;
  }
};

}  // namespace millrace
