#include "ops/tiles.simd.h"
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {

// Four tiles of sums, as many as the kernels of the operators keep.
float peak_tdpbf16(std::int64_t steps) noexcept {
  using Tiles = HardwareTiles;
  alignas(64) float sums[256];
  Tiles::configure(16, 16);
  for (std::int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Tiles::multiply<0, 4, 6>();
      Tiles::multiply<1, 5, 6>();
      Tiles::multiply<2, 4, 7>();
      Tiles::multiply<3, 5, 7>();
    }
  Tiles::store<0>(sums, 64);
  Tiles::release();
  return sums[0];
}

}  // namespace millrace::MILLRACE_ISA
