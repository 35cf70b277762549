// ISA tiers, their detection and their choice at run time. A kernel has a portable variant and as many tier variants as
// were worth writing; calling it runs the best one that this processor has and the limit allows.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace millrace {

enum class Isa : std::uint8_t {
  scalar,      // the baseline build
  avx2,        // x86-64-v3
  avx512,      // x86-64-v4
  avx512bf16,  // the former with BF16, VBMI, VBMI2, VNNI and GFNI
  amx,         // the former with AMX-TILE and AMX-BF16; only on request (ops/tile_unit.h)
};
inline constexpr std::array all_isas = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512bf16, Isa::amx};

std::string_view name_of(Isa isa) noexcept;
std::optional<Isa> isa_named(std::string_view name) noexcept;

// Whether this processor and operating system run the tier and this build has its kernels.
bool isa_supported(Isa isa) noexcept;

// The tier kernels run on: the best supported one but amx, or what the environment variable MILLRACE_ISA or limit_isa()
// says. Throws Error(bad_argument) if the variable names no tier, Error(unsupported) if it names one this machine
// lacks.
Isa active_isa();

// Sets the tier for the whole process to one that is supported; between passes only. Throws Error(unsupported). With
// amx the process asks the operating system for the use of tiles, for good; what that changes for a program beside
// Millrace is said in ops/tile_unit.h, and it is why nothing chooses this tier by itself.
void limit_isa(Isa isa);

template <class Fn>
struct Kernel {
  std::string_view name;
  std::array<Fn*, all_isas.size()> variants;  // indexed by Isa; null where the tier below serves

  // The variant of the highest tier up to `isa`.
  Fn* at(Isa isa) const noexcept {
    auto tier = static_cast<std::size_t>(isa);
    while (variants[tier] == nullptr) --tier;
    return variants[tier];
  }
  Fn* best() const { return at(active_isa()); }
};

// Declares one kernel function in the namespace of every tier; those a build lacks are never named.
#define MILLRACE_DECLARE_TIERS(Fn, function) \
  namespace scalar {                         \
  Fn function;                               \
  }                                          \
  namespace avx2 {                           \
  Fn function;                               \
  }                                          \
  namespace avx512 {                         \
  Fn function;                               \
  }                                          \
  namespace avx512bf16 {                     \
  Fn function;                               \
  }                                          \
  namespace amx {                            \
  Fn function;                               \
  }

#ifdef MILLRACE_HAS_avx2
#define MILLRACE_AVX2(function) avx2::function
#else
#define MILLRACE_AVX2(function) nullptr
#endif
#ifdef MILLRACE_HAS_avx512
#define MILLRACE_AVX512(function) avx512::function
#else
#define MILLRACE_AVX512(function) nullptr
#endif
#ifdef MILLRACE_HAS_avx512bf16
#define MILLRACE_AVX512BF16(function) avx512bf16::function
#else
#define MILLRACE_AVX512BF16(function) nullptr
#endif
#ifdef MILLRACE_HAS_amx
#define MILLRACE_AMX(function) amx::function
#else
#define MILLRACE_AMX(function) nullptr
#endif

}  // namespace millrace
