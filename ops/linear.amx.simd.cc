#include "ops/linear_tiles.simd.h"
#include "ops/tiles.simd.h"

namespace millrace::MILLRACE_ISA {

void pack_tiles(const TilePacking& packing) noexcept {
  pack_into_tiles(packing);
}

void linear_tiles(const LinearCall& call) noexcept {
  TileProduct<HardwareTiles>(call).run();
}

}  // namespace millrace::MILLRACE_ISA
