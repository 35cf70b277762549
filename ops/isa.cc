#include "ops/isa.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "ops/tile_unit.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::array<std::string_view, all_isas.size()> names = {"scalar", "avx2", "avx512", "avx512bf16", "amx"};

bool detect(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar:
      return true;
#ifdef MILLRACE_HAS_avx2
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    case Isa::avx512:
      return detect(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    case Isa::avx512bf16:
      return detect(Isa::avx512) && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") &&
             __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni") &&
             __builtin_cpu_supports("gfni");
    case Isa::amx:
      return detect(Isa::avx512bf16) && has_tile_unit();
#endif
    default:
      return false;
  }
}

// Asks the processor once: in a virtual machine each question about its tiles can take 20 microseconds.
Isa best_supported() noexcept {
  static const Isa best = [] {
    Isa highest = Isa::scalar;
    for (Isa isa : all_isas)
      if (detect(isa)) highest = isa;
    return highest;
  }();
  return best;
}

void prepare(Isa isa) {
  if (isa == Isa::amx) allow_tiles();
}

Isa initial_isa() {
  const char* wanted = std::getenv("MILLRACE_ISA");
  if (wanted == nullptr || *wanted == '\0') return std::min(best_supported(), Isa::avx512bf16);
  const std::optional<Isa> isa = isa_named(wanted);
  require(isa.has_value(), Errc::bad_argument, "MILLRACE_ISA is '{}', expected scalar, avx2, avx512, avx512bf16 or amx",
          wanted);
  require(isa_supported(*isa), Errc::unsupported, "MILLRACE_ISA is {}, but this machine's best tier is {}", wanted,
          name_of(best_supported()));
  prepare(*isa);
  return *isa;
}

// The one process-wide setting: which instructions may be used is a property of the process.
std::atomic<Isa>& setting() {
  static std::atomic<Isa> isa = initial_isa();
  return isa;
}

}  // namespace

std::string_view name_of(Isa isa) noexcept {
  return names[static_cast<std::size_t>(isa)];
}

std::optional<Isa> isa_named(std::string_view name) noexcept {
  for (Isa isa : all_isas)
    if (name_of(isa) == name) return isa;
  return std::nullopt;
}

bool isa_supported(Isa isa) noexcept {
  return isa <= best_supported();  // each tier implies those below
}

Isa active_isa() {
  return setting().load(std::memory_order_relaxed);
}

void limit_isa(Isa isa) {
  require(isa_supported(isa), Errc::unsupported, "the {} tier was asked for, but this machine's best is {}",
          name_of(isa), name_of(best_supported()));
  prepare(isa);
  setting().store(isa, std::memory_order_relaxed);
}

}  // namespace millrace
