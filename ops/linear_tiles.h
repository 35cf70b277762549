// The matrix product of Compute::bf16_tiles on the amx tier, at the level of functions: what ops/linear_kernels.h says
// of kernels and weights holds here too, but for the form of x and the order of the sums.
//
// Order contract. x and weights are bf16 in the packed order of Compute::bf16, so that FP8 weights and their bf16
// values give the same bits. The positions of a row are taken 32 at a time, in ascending order; each such step has an
// even and an odd sum, both from +0, to which the products at the even and at the odd positions are added in ascending
// order by fused multiply-adds; then sum = sum + (even + odd), from +0. Denormals count as zero wherever they come in
// or out. That is what TDPBF16PS does; it makes each result depend on its row of x and its row of weights alone, but it
// is not the order of the lower tiers, whose results differ in the last bits.
// Source: Intel SDM, TDPBF16PS.
//
// x comes as tiles: rows 16 at a time, the last group with the c <= 16 that are left, each group laid out as
// [step][pair of positions][row of the group][2]. A single row is thus a packed row as it is.
#pragma once

#include "ops/linear_kernels.h"

namespace millrace {

inline constexpr std::int64_t tile_rows = 16;  // rows of a group, and outputs of a tile of weights

// Some elements of some rows to be packed into tiles.
struct TilePacking {
  const float* x;              // (.., stride)
  std::int64_t stride;         // elements from row to row of x
  const std::int32_t* x_rows;  // (rows) which rows of x to take, or null for rows 0, 1, ...
  std::int64_t rows, inputs;   // of the tiles
  std::int64_t begin, end;  // elements of each row, x pointing to `begin`: multiples of linear_block, or end = inputs
  std::uint16_t* tiles;     // packed_bytes(rows, inputs)
};
using PackTilesFn = void(const TilePacking& packing) noexcept;

// Null where the build has no amx tier. `x` of a call points to the tiles of its rows, `x_rows` is null.
extern PackTilesFn* const pack_tiles_kernel;
extern LinearFn* const linear_tiles_kernel;

// How the kernel divides its scratch.
struct TileScratch {
  static constexpr std::int64_t panel_outputs = 2 * tile_rows;  // outputs whose weights are expanded at a time
  static constexpr std::int64_t part_blocks = 32;               // blocks of their inputs, likewise
  static constexpr std::int64_t few_part_blocks = 2;  // with at most 32 rows: both panels in the first-level cache
  static constexpr std::int64_t most_rows = 512;
  static constexpr std::int64_t group_bytes = 1024 * 1024;  // inputs that stay in the second-level cache
  static constexpr std::int64_t pair_floats = 4 * tile_rows * tile_rows;

  std::byte* tables;         // 64 bytes per block
  std::uint16_t* panels[2];  // expanded weights: one is multiplied while the other is filled
  float* sums;               // 4 tiles for each pair of groups of rows

  TileScratch(std::byte* memory, std::int64_t inputs) noexcept
      : tables(memory),
        panels{reinterpret_cast<std::uint16_t*>(memory + blocks_of(inputs) * 64),
               reinterpret_cast<std::uint16_t*>(memory + blocks_of(inputs) * 64) + panel_elements(inputs)},
        sums(reinterpret_cast<float*>(panels[1] + panel_elements(inputs))) {}

  static constexpr std::int64_t blocks_of(std::int64_t inputs) noexcept { return padded_inputs(inputs) / linear_block; }
  static constexpr std::int64_t panel_elements(std::int64_t inputs) noexcept {
    const std::int64_t blocks = blocks_of(inputs) < part_blocks ? blocks_of(inputs) : part_blocks;
    return panel_outputs * blocks * linear_block;
  }
  // Rows that are multiplied before the weights are expanded again: pairs of groups.
  static constexpr std::int64_t block_rows(std::int64_t inputs) noexcept {
    const std::int64_t rows = group_bytes / (2 * padded_inputs(inputs)) / (2 * tile_rows) * (2 * tile_rows);
    return rows < 2 * tile_rows ? 2 * tile_rows : rows > most_rows ? most_rows : rows;
  }
  static constexpr std::size_t bytes(std::int64_t inputs) noexcept {
    return static_cast<std::size_t>(blocks_of(inputs) * 64 + 2 * panel_elements(inputs) * 2 +
                                    block_rows(inputs) / (2 * tile_rows) * pair_floats * 4);
  }
};

}  // namespace millrace
