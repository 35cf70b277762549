#include "ops/linear_tiles.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(PackTilesFn, pack_tiles)
MILLRACE_DECLARE_TIERS(LinearFn, linear_tiles)

PackTilesFn* const pack_tiles_kernel = MILLRACE_AMX(pack_tiles);
LinearFn* const linear_tiles_kernel = MILLRACE_AMX(linear_tiles);

}  // namespace millrace
