// What HardwareTiles of ops/tiles.simd.h does, in C++, for tests of the amx tier where there is no such unit. As strict
// as the instructions: a use of tiles that would fault there stops the program here.
// Source: Intel SDM, LDTILECFG, TILELOADD, TILESTORED, TDPBF16PS; the order and the flushing as measured on hardware.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace millrace::MILLRACE_ISA {
namespace {

struct TileState {
  bool configured = false;
  int rows[8] = {}, row_bytes[8] = {};
  alignas(64) std::uint8_t data[8][16][64] = {};
};
thread_local TileState tiles;

inline void fault_unless(bool condition) noexcept {
  if (!condition) __builtin_trap();
}

struct EmulatedTiles {
  static void configure(int first, int second) noexcept {
    fault_unless(first > 0 && first <= 16 && second >= 0 && second <= 16);
    const int dwords[8] = {first, first, second, second, 16, 16, first, second};
    tiles = {};
    tiles.configured = true;
    for (int tile = 0; tile < 8; ++tile) {
      tiles.row_bytes[tile] = 4 * dwords[tile];
      tiles.rows[tile] = dwords[tile] > 0 ? 16 : 0;
    }
  }
  static void release() noexcept { tiles = {}; }

  template <int tile>
  static void zero() noexcept {
    fault_unless(tiles.configured && tiles.rows[tile] > 0);
    std::memset(tiles.data[tile], 0, sizeof tiles.data[tile]);
  }
  template <int tile>
  static void load(const void* source, std::int64_t row_bytes) noexcept {
    zero<tile>();
    for (int row = 0; row < tiles.rows[tile]; ++row)
      std::memcpy(tiles.data[tile][row], static_cast<const char*>(source) + row * row_bytes,
                  static_cast<std::size_t>(tiles.row_bytes[tile]));
  }
  template <int tile>
  static void store(void* target, std::int64_t row_bytes) noexcept {
    fault_unless(tiles.configured && tiles.rows[tile] > 0);
    for (int row = 0; row < tiles.rows[tile]; ++row)
      std::memcpy(static_cast<char*>(target) + row * row_bytes, tiles.data[tile][row],
                  static_cast<std::size_t>(tiles.row_bytes[tile]));
  }
  template <int sums, int weights, int inputs>
  static void multiply() noexcept {
    fault_unless(tiles.configured && tiles.rows[sums] == tiles.rows[weights] &&
                 tiles.row_bytes[weights] == 4 * tiles.rows[inputs] &&
                 tiles.row_bytes[sums] == tiles.row_bytes[inputs] && tiles.rows[sums] > 0);
    float x[16][2][16];  // pair, even or odd, column
    for (int pair = 0; pair < 16; ++pair)
      for (int n = 0; n < 16; ++n)
        for (int odd = 0; odd < 2; ++odd) x[pair][odd][n] = bf16_at(tiles.data[inputs][pair], 2 * n + odd);
    for (int m = 0; m < 16; ++m) {
      float sum[2][16] = {};
      for (int pair = 0; pair < 16; ++pair)
        for (int odd = 0; odd < 2; ++odd) {
          const float w = bf16_at(tiles.data[weights][m], 2 * pair + odd);
          for (int n = 0; n < 16; ++n) sum[odd][n] = flushed(std::fma(w, x[pair][odd][n], sum[odd][n]));
        }
      float total[16];
      std::memcpy(total, tiles.data[sums][m], sizeof total);
      for (int n = 0; n < 16; ++n) total[n] = flushed(flushed(total[n]) + flushed(sum[0][n] + sum[1][n]));
      std::memcpy(tiles.data[sums][m], total, static_cast<std::size_t>(tiles.row_bytes[sums]));
    }
  }

 private:
  static float flushed(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : value;
  }
  static float bf16_at(const std::uint8_t* row, int index) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, row + 2 * index, sizeof bits);
    return flushed(std::bit_cast<float>(std::uint32_t{bits} << 16));
  }
};

}  // namespace
}  // namespace millrace::MILLRACE_ISA
