// The instructions of the tile unit that kernels use, as operations on tiles 0 to 7. Kernels are templates over this
// class, so that tests can run them on an emulation (tests/support/emulated_tiles.simd.h) where there is no such unit.
// Included by kernel sources only.
//
// A kernel configures tiles at its start and releases them at its end, with no call in between that could use them:
// they survive none. Written in assembly because GCC 12's intrinsics declare 8 of the 64 bytes of a configuration, and
// nothing of a loaded tile, as read, so that the compiler may move or drop the stores that make them.
#pragma once

#include <cstdint>

namespace millrace::MILLRACE_ISA {
namespace {

struct HardwareTiles {
  // Tiles 0 and 1 become 16 rows of `first` dwords, 2 and 3 of `second`: sums. 4 and 5 become 16 rows of 16 dwords:
  // weights. 6 and 7 become 16 rows of `first` and of `second` dwords: inputs. `second` may be 0. All are zero then.
  static void configure(int first, int second) noexcept {
    struct alignas(64) Configuration {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } configuration;
    const int dwords[8] = {first, first, second, second, 16, 16, first, second};
    for (int tile = 0; tile < 8; ++tile) {
      configuration.row_bytes[tile] = static_cast<std::uint16_t>(4 * dwords[tile]);
      configuration.rows[tile] = dwords[tile] > 0 ? 16 : 0;
    }
    static_assert(sizeof configuration == 64);
    asm volatile("ldtilecfg %0" : : "m"(configuration));
  }
  static void release() noexcept { asm volatile("tilerelease"); }

  template <int tile>
  static void zero() noexcept {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
  }
  // Rows of a tile lie one after the other, `row_bytes` each, as configured.
  template <int tile>
  [[gnu::always_inline]] static void load(const void* source, std::int64_t row_bytes) noexcept {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(source), "r"(row_bytes), "i"(tile), "m"(*static_cast<const Memory*>(source)));
  }
  template <int tile>
  [[gnu::always_inline]] static void store(void* target, std::int64_t row_bytes) noexcept {
    asm volatile("tilestored %%tmm%c3, (%1,%2,1)"
                 : "+m"(*static_cast<Memory*>(target))
                 : "r"(target), "r"(row_bytes), "i"(tile));
  }
  // sums = sums + weights * inputs, by TDPBF16PS.
  template <int sums, int weights, int inputs>
  [[gnu::always_inline]] static void multiply() noexcept {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(weights), "i"(inputs));
  }

 private:
  using Memory = char[1024];  // at most; a char may alias anything
};

}  // namespace
}  // namespace millrace::MILLRACE_ISA
