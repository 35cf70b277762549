// The kernels of ops/linear_tiles.h on a tile unit, `Tiles` being HardwareTiles of ops/tiles.simd.h or an emulation of
// it. Weights are the first operand, which takes rows as they lie, 16 outputs a tile; the rows of x are the columns of
// the second. A thin tile costs what a full one costs, so one kernel serves any number of rows. Included by kernel
// sources of the amx tier only.
#pragma once

#include "ops/weight_tiles.simd.h"

namespace millrace::MILLRACE_ISA {
namespace {

// Exchanges rows and columns.
[[gnu::always_inline]] inline void transpose(__m512i (&r)[16]) noexcept {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  // r[4 i + j]: of rows 4 i to 4 i + 3, columns j, 4 + j, 8 + j and 12 + j
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88),
                  odd_low = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88),
                  odd_high = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    t[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

inline __mmask16 first_lanes(std::int64_t count) noexcept {
  return count >= 16 ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
}

// 32 elements as bf16, those from `rest` on as zero.
inline __m512i packed_bf16(const float* x, std::int64_t rest) noexcept {
  __m256i half[2];
  for (int i = 0; i < 2; ++i, x += 16, rest -= 16) {
    const __m512 rounded = round_bf16(rest <= 0 ? Lanes::zero() : Lanes::load_first(x, rest)).part[0];
    half[i] = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(rounded), 16));
  }
  return _mm512_inserti64x4(_mm512_castsi256_si512(half[0]), half[1], 1);
}

// 64 elements of each row of a group, from `e` on: two steps of its tiles.
inline void pack_steps(const TilePacking& packing, std::int64_t first, int columns, std::int64_t e,
                       std::uint16_t* target) noexcept {
  __m512i even[16] = {}, odd[16] = {};
  const std::int64_t rest = packing.end - e;
  for (int n = 0; n < columns; ++n) {
    const std::int64_t row = packing.x_rows != nullptr ? packing.x_rows[first + n] : first + n;
    const float* x = packing.x + row * packing.stride + (e - packing.begin);
    const __m512i low = packed_bf16(x, rest), high = packed_bf16(x + 32, rest - 32);
    even[n] = _mm512_shuffle_i64x2(low, high, 0x88);
    odd[n] = _mm512_shuffle_i64x2(low, high, 0xdd);
  }
  if (columns == 1) {
    _mm512_storeu_si512(target, even[0]);
    _mm512_storeu_si512(target + 32, odd[0]);
    return;
  }
  transpose(even);
  transpose(odd);
  const __mmask16 mask = first_lanes(columns);
  for (int pair = 0; pair < 16; ++pair) {
    _mm512_mask_storeu_epi32(target + pair * 2 * columns, mask, even[pair]);
    _mm512_mask_storeu_epi32(target + (16 + pair) * 2 * columns, mask, odd[pair]);
  }
}

inline void pack_into_tiles(const TilePacking& packing) noexcept {
  const std::int64_t padded = padded_inputs(packing.inputs);
  const std::int64_t end = packing.end < packing.inputs ? packing.end : padded;
  for (std::int64_t first = 0; first < packing.rows; first += tile_rows) {
    const std::int64_t left = packing.rows - first;
    const int columns = static_cast<int>(left < tile_rows ? left : tile_rows);
    std::uint16_t* group = packing.tiles + first * padded;
    for (std::int64_t e = packing.begin; e < end; e += 64) pack_steps(packing, first, columns, e, group + e * columns);
  }
}

template <class Tiles>
class TileProduct {
 public:
  explicit TileProduct(const LinearCall& call) noexcept
      : call_(call),
        scratch_(call.scratch, call.weight.inputs),
        blocks_(TileScratch::blocks_of(call.weight.inputs)),
        weights_(call_.weight, scratch_.tables) {}

  void run() noexcept {
    const std::int64_t most = TileScratch::block_rows(call_.weight.inputs);
    for (first_ = 0; first_ < call_.rows; first_ += most) {
      rows_ = call_.rows - first_ < most ? call_.rows - first_ : most;
      multiply_rows();
    }
    if (columns_[0] > 0) Tiles::release();
  }

 private:
  static constexpr std::int64_t steps_per_block = 4;

  Stage stage_from(std::int64_t output, std::int64_t block) const noexcept {
    if (block == blocks_) {
      output += weights_.outputs_from(output, call_.end);
      block = 0;
    }
    if (output >= call_.end) return {};
    const std::int64_t rest = blocks_ - block, most = few_ ? TileScratch::few_part_blocks : TileScratch::part_blocks;
    return {.output = output,
            .outputs = weights_.outputs_from(output, call_.end),
            .block = block,
            .blocks = rest < most ? rest : most};
  }

  // Rows [first_, first_ + rows_) and all weights: one stage is multiplied while the next one is expanded.
  void multiply_rows() noexcept {
    const std::int64_t pairs = (rows_ + 2 * tile_rows - 1) / (2 * tile_rows);
    few_ = pairs == 1;
    Stage stage = stage_from(call_.begin, 0);
    weights_.begin(stage, scratch_.panels[0], 1);
    weights_.finish();
    for (int turn = 0; stage.outputs > 0; turn ^= 1) {
      const Stage next = stage_from(stage.output, stage.block + stage.blocks);
      weights_.begin(next, scratch_.panels[turn ^ 1], pairs * stage.blocks * steps_per_block);
      for (std::int64_t pair = 0; pair < pairs; ++pair) multiply_pair(stage, scratch_.panels[turn], pair);
      weights_.finish();
      stage = next;
    }
  }

  // A stage with two groups of rows, or with one where there is no other.
  void multiply_pair(const Stage& stage, const std::uint16_t* panel, std::int64_t pair) noexcept {
    const std::int64_t row = 2 * tile_rows * pair, left = rows_ - row - tile_rows;
    configure(static_cast<int>(left < 0 ? left + tile_rows : tile_rows),
              static_cast<int>(left < 0           ? 0
                               : left < tile_rows ? left
                                                  : tile_rows));
    const bool whole = few_ || stage.blocks == blocks_;
    float* sums = scratch_.sums + (whole ? 0 : pair * TileScratch::pair_floats);
    if (columns_[1] > 0)
      multiply_steps<2>(stage, panel, first_ + row, sums);
    else
      multiply_steps<1>(stage, panel, first_ + row, sums);
    if (stage.block + stage.blocks < blocks_) return;
    for (int group = 0; group < 2; ++group)
      if (columns_[group] > 0)
        store_outputs(stage, first_ + row + group * tile_rows, columns_[group], sums + group * 512);
  }

  void configure(int first, int second) noexcept {
    if (columns_[0] == first && columns_[1] == second) return;
    columns_[0] = first;
    columns_[1] = second;
    Tiles::configure(first, second);
  }

  // sums: (group, tile of outputs, output, row of x), rows of sums having 16 places, or 1 where there is one row of x.
  static std::int64_t sums_row(int columns) noexcept { return columns == 1 ? 4 : 64; }

  template <int groups>
  void multiply_steps(const Stage& stage, const std::uint16_t* w, std::int64_t row, float* sums) noexcept {
    const std::int64_t padded = blocks_ * linear_block, step = stage.block * linear_block;
    const std::int64_t bytes[2] = {4 * columns_[0], 4 * columns_[1]},
                       sum_bytes[2] = {sums_row(columns_[0]), sums_row(columns_[1])};
    const auto* x = static_cast<const std::uint16_t*>(call_.x) + row * padded;
    const std::uint16_t* second = x + tile_rows * padded + step * columns_[1];
    x += step * columns_[0];
    if (stage.block == 0 || !few_) load_sums<groups>(stage.block == 0, sums, sum_bytes);
    for (std::int64_t i = 0; i < stage.blocks * steps_per_block; ++i) {
      Tiles::template load<4>(w, 64);
      Tiles::template load<5>(w + WeightTiles::tile_elements, 64);
      Tiles::template load<6>(x, bytes[0]);
      Tiles::template multiply<0, 4, 6>();
      Tiles::template multiply<1, 5, 6>();
      if constexpr (groups == 2) {
        Tiles::template load<7>(second, bytes[1]);
        Tiles::template multiply<2, 4, 7>();
        Tiles::template multiply<3, 5, 7>();
        second += 8 * bytes[1];
      }
      w += WeightTiles::step_elements;
      x += 8 * bytes[0];
      weights_.advance();
    }
    if (few_ && stage.block + stage.blocks < blocks_) return;
    Tiles::template store<0>(sums, sum_bytes[0]);
    Tiles::template store<1>(sums + 256, sum_bytes[0]);
    if constexpr (groups == 2) {
      Tiles::template store<2>(sums + 512, sum_bytes[1]);
      Tiles::template store<3>(sums + 768, sum_bytes[1]);
    }
  }

  template <int groups>
  static void load_sums(bool from_zero, const float* sums, const std::int64_t (&bytes)[2]) noexcept {
    if (from_zero) {
      Tiles::template zero<0>();
      Tiles::template zero<1>();
      if constexpr (groups == 2) {
        Tiles::template zero<2>();
        Tiles::template zero<3>();
      }
      return;
    }
    Tiles::template load<0>(sums, bytes[0]);
    Tiles::template load<1>(sums + 256, bytes[0]);
    if constexpr (groups == 2) {
      Tiles::template load<2>(sums + 512, bytes[1]);
      Tiles::template load<3>(sums + 768, bytes[1]);
    }
  }

  // Rows [row, row + columns) of y from their two tiles of sums.
  void store_outputs(const Stage& stage, std::int64_t row, int columns, const float* sums) noexcept {
    for (std::int64_t o = 0; o < stage.outputs; o += tile_rows, sums += 256) {
      const __mmask16 mask = first_lanes(stage.outputs - o);
      float* y = call_.y + row * call_.y_stride + stage.output + o;
      if (columns == 1) {
        _mm512_mask_storeu_ps(y, mask, _mm512_loadu_ps(sums));
        continue;
      }
      __m512i rows[16];
      for (int i = 0; i < 16; ++i) rows[i] = _mm512_loadu_si512(sums + i * 16);
      transpose(rows);
      for (int n = 0; n < columns; ++n, y += call_.y_stride) _mm512_mask_storeu_epi32(y, mask, rows[n]);
    }
  }

  const LinearCall& call_;
  TileScratch scratch_;
  std::int64_t blocks_;
  WeightTiles weights_;
  std::int64_t first_ = 0, rows_ = 0;
  bool few_ = false;         // no more rows than tiles hold: their sums stay there from stage to stage
  int columns_[2] = {0, 0};  // of the tiles of inputs and sums, as configured
};

}  // namespace
}  // namespace millrace::MILLRACE_ISA
