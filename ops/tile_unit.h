// The processor's tile unit (AMX) as a resource of the process: whether it is there, and the permission to use it.
//
// Linux gives a process the use of tiles on request only, for all of its threads and for good, because their 8 KiB of
// state change the process: from then on the operating system refuses alternate signal stacks (sigaltstack) that could
// not hold them, about 12 KiB instead of the 2 KiB of MINSIGSTKSZ, and where such a small one is already set it refuses
// the request. Hence nothing here asks by itself.
#pragma once

namespace millrace {

// Whether the processor has AMX-TILE and AMX-BF16 and the operating system can save tiles.
bool has_tile_unit() noexcept;

// Asks for the use of tiles; again is as good as once. Throws Error(unsupported) if the operating system refuses.
void allow_tiles();

}  // namespace millrace
