// MXFP4 weights unpacked to bf16 in the packed order of ops/linear_kernels.h, for one ISA tier, exactly. Included by
// kernel sources only.
#pragma once

#include "ops/unpack.simd.h"
#include "runtime/float4.h"

namespace millrace::MILLRACE_ISA {
namespace {

// The lower and the upper bytes of the 16 values that codes take under each exponent.
struct Mxfp4Tables {
  alignas(64) std::uint8_t low[mxfp4_largest_exponent + 1][16];
  alignas(64) std::uint8_t high[mxfp4_largest_exponent + 1][16];

  constexpr Mxfp4Tables() : low(), high() {
    for (unsigned exponent = 0; exponent <= mxfp4_largest_exponent; ++exponent)
      for (unsigned code = 0; code < 16; ++code) {
        const Bfloat16 value = mxfp4_to_bf16(code, exponent);
        low[exponent][code] = static_cast<std::uint8_t>(value);
        high[exponent][code] = static_cast<std::uint8_t>(value >> 8);
      }
  }
};
constexpr Mxfp4Tables mxfp4_tables;

// part_elements consecutive weights; their exponents are those at `exponents`.
inline Unpacked unpack_mxfp4(const std::uint8_t* pairs, const std::uint8_t* exponents) noexcept {
#if defined(__AVX512F__)
  const __m512i pair = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs)));
  const __m512i code = _mm512_and_si512(_mm512_or_si512(pair, _mm512_slli_epi16(pair, 4)), _mm512_set1_epi8(0x0f));
  const auto table = [&](const std::uint8_t(*values)[16]) noexcept {
    const auto half = [&](std::uint8_t exponent) noexcept {
      return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(values[exponent])));
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(half(exponents[0])), half(exponents[1]), 1);
  };
  const __m512i low = _mm512_shuffle_epi8(table(mxfp4_tables.low), code);
  const __m512i high = _mm512_shuffle_epi8(table(mxfp4_tables.high), code);
  return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
#else
  const __m256i pair = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pairs)));
  const __m256i code = _mm256_and_si256(_mm256_or_si256(pair, _mm256_slli_epi16(pair, 4)), _mm256_set1_epi8(0x0f));
  const auto table = [&](const std::uint8_t(*values)[16]) noexcept {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(values[exponents[0]])));
  };
  const __m256i low = _mm256_shuffle_epi8(table(mxfp4_tables.low), code);
  const __m256i high = _mm256_shuffle_epi8(table(mxfp4_tables.high), code);
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
#endif
}

// One weight as fp32.
inline float mxfp4_to_f32(unsigned code, std::uint8_t exponent) noexcept {
  return bf16_to_f32(static_cast<Bfloat16>(mxfp4_tables.low[exponent][code] | mxfp4_tables.high[exponent][code] << 8));
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
