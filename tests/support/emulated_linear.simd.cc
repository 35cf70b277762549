// The amx tier on emulated tiles: takes the place of the library's own object where a test program links it.
#include "ops/linear_tiles.simd.h"
#include "tests/support/emulated_tiles.simd.h"

namespace millrace::MILLRACE_ISA {

void pack_tiles(const TilePacking& packing) noexcept {
  pack_into_tiles(packing);
}

void linear_tiles(const LinearCall& call) noexcept {
  TileProduct<EmulatedTiles>(call).run();
}

// Whether the calling thread has left tiles configured.
bool tiles_are_configured() noexcept {
  return tiles.configured;
}

}  // namespace millrace::MILLRACE_ISA
