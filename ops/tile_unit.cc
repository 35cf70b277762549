#include "ops/tile_unit.h"

#include <cerrno>
#include <cstring>

#include "runtime/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace millrace {
namespace {

// Features whose state the operating system saves.
unsigned saved_features() noexcept {
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

bool has_tile_unit() noexcept {
  constexpr unsigned os_saves_state = 1u << 27;                     // CPUID 1, ECX: XGETBV may be used
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;      // CPUID 7, EDX
  constexpr unsigned tile_config = 1u << 17, tile_data = 1u << 18;  // XCR0
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & os_saves_state) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
  return (saved_features() & (tile_config | tile_data)) == (tile_config | tile_data);
}

void allow_tiles() {
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  const long status = syscall(SYS_arch_prctl, request_permission, tile_data);
  require(status == 0, Errc::unsupported, "the amx tier was asked for, but the operating system refuses tiles: {}{}",
          std::strerror(errno), errno == ENOSPC ? " (a thread's alternate signal stack is too small)" : "");
}

}  // namespace millrace

#else

namespace millrace {

bool has_tile_unit() noexcept {
  return false;
}

void allow_tiles() {
  fail(Errc::unsupported, "the amx tier was asked for, but this system has no tiles");
}

}  // namespace millrace

#endif
