// Weights as they lie in memory, for one ISA tier: unpacked to bf16 in the packed order of ops/linear_kernels.h, where
// FP8 is exact (the bits are those of bf16_from_f32(code * scale)), or FP8 codes as fp32. Included by kernel sources
// only.
#pragma once

#include "ops/vec.h"
#include "runtime/bfloat16.h"

// Of each source's own: no helper leaves its object, where another tier's might take its place.
namespace millrace::MILLRACE_ISA {
namespace {

#if defined(__AVX512F__)
using Vector = __m512;
using Bits = __m512i;
#else
using Vector = __m256;
using Bits = __m256i;
#endif
inline constexpr int parts = Lanes::parts;                 // registers per 16 lanes
inline constexpr std::int64_t part_elements = 64 / parts;  // weights that one unpacking step takes

inline Bits load_bits(const void* source) noexcept {
#if defined(__AVX512F__)
  return _mm512_loadu_si512(source);
#else
  return _mm256_loadu_si256(static_cast<const __m256i*>(source));
#endif
}

// Keeps what was loaded in a register: GCC 12 would load it again for each of its uses.
template <class T>
[[gnu::always_inline]] inline T loaded_once(T value) noexcept {
  asm("" : "+v"(value));
  return value;
}

// 64 / parts consecutive weights as bf16, in packed order: those of the even and of the odd accumulator.
struct Unpacked {
  Bits even, odd;
};

// bf16(code * scale) of the codes of one block: by low nibble for exponents above zero, where the high nibble only adds
// to the upper byte, and by the code itself for E4M3 subnormals.
struct alignas(64) BlockTables {
  std::uint8_t low[16], high[16], small_low[16], small_high[16];

  // False if bf16 cannot hold this scale times every normal code as a normal number; the tables are useless then.
  bool build(float scale) noexcept {
    split(normals, scale, 1, low, high);  // these codes have 1 in the upper bits of the exponent
    split(subnormals, scale, 0, small_low, small_high);
    return holds(scale);
  }
  static bool holds(float scale) noexcept { return scale >= 0x1p-110f && scale <= 0x1p110f; }

 private:
  static constexpr float normals[16] = {0x1.0p-5f, 0x1.2p-5f, 0x1.4p-5f, 0x1.6p-5f, 0x1.8p-5f, 0x1.ap-5f,
                                        0x1.cp-5f, 0x1.ep-5f, 0x1.0p-4f, 0x1.2p-4f, 0x1.4p-4f, 0x1.6p-4f,
                                        0x1.8p-4f, 0x1.ap-4f, 0x1.cp-4f, 0x1.ep-4f};  // codes 16 to 31
  static constexpr float subnormals[16] = {0, 0x1p-9f, 0x2p-9f, 0x3p-9f, 0x4p-9f, 0x5p-9f, 0x6p-9f, 0x7p-9f,
                                           0, 0x1p-9f, 0x2p-9f, 0x3p-9f, 0x4p-9f, 0x5p-9f, 0x6p-9f, 0x7p-9f};

  // The bytes of bf16(value * scale), the upper ones less `less`.
  static void split(const float (&values)[16], float scale, int less, std::uint8_t* lower,
                    std::uint8_t* upper) noexcept {
#if defined(__AVX512F__)
    const __m512i bits = _mm512_castps_si512(round_bf16(Lanes::load(values) * Lanes::broadcast(scale)).part[0]);
    const auto keep = [](__m512i bytes, std::uint8_t* target) noexcept {
      _mm_store_si128(reinterpret_cast<__m128i*>(target), _mm512_cvtepi32_epi8(bytes));
    };
    keep(_mm512_srli_epi32(bits, 16), lower);
    keep(_mm512_sub_epi32(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(less)), upper);
#else
    for (int i = 0; i < 16; ++i) {
      const Bfloat16 value = bf16_from_f32(values[i] * scale);
      lower[i] = static_cast<std::uint8_t>(value);
      upper[i] = static_cast<std::uint8_t>((value >> 8) - less);
    }
#endif
  }
};

// Codes of exponent zero are treated apart; `with_small` false says that there are none.
template <bool with_small>
inline Unpacked unpack_fp8(const std::uint8_t* codes, const BlockTables& tables) noexcept {
  const Bits code = loaded_once(load_bits(codes));
#if defined(__AVX512F__)
  const auto table = [](const std::uint8_t* bytes) noexcept {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
  };
#if defined(__AVX512VBMI__)
  // Looks at six bits of an index, the upper two of which choose among copies of the table.
  const auto look_up = [](__m512i at, __m512i bytes) noexcept { return _mm512_permutexvar_epi8(at, bytes); };
  const __m512i index = code;
#else
  const auto look_up = [](__m512i at, __m512i bytes) noexcept { return _mm512_shuffle_epi8(bytes, at); };
  const __m512i index = _mm512_and_si512(code, _mm512_set1_epi8(0x7f));
#endif
#if defined(__GFNI__)
  // Bit 7 stays, bits 6 to 4 move to 2 to 0.
  const __m512i upper = _mm512_gf2p8affine_epi64_epi8(code, _mm512_set1_epi64(0x1020400000000080), 0);
#else
  const __m512i shifted = _mm512_and_si512(_mm512_srli_epi16(code, 4), _mm512_set1_epi8(0x07));
  const __m512i upper = _mm512_ternarylogic_epi32(_mm512_set1_epi8(-128), code, shifted, 0xca);
#endif
  __m512i low = look_up(index, table(tables.low));
  __m512i high = _mm512_add_epi8(upper, look_up(index, table(tables.high)));
  const __mmask64 small = with_small ? _mm512_testn_epi8_mask(code, _mm512_set1_epi8(0x78)) : 0;
  if (small != 0) [[unlikely]] {
    const __m512i sign = _mm512_and_si512(code, _mm512_set1_epi8(-128));
    low = _mm512_mask_blend_epi8(small, low, look_up(index, table(tables.small_low)));
    high = _mm512_mask_blend_epi8(small, high, _mm512_or_si512(sign, look_up(index, table(tables.small_high))));
  }
  return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
#else
  const auto table = [](const std::uint8_t* bytes) noexcept {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
  };
  const __m256i index = _mm256_and_si256(code, _mm256_set1_epi8(0x7f));
  const __m256i sign = _mm256_and_si256(code, _mm256_set1_epi8(-128));
  const __m256i shifted = _mm256_and_si256(_mm256_srli_epi16(code, 4), _mm256_set1_epi8(0x07));
  __m256i low = _mm256_shuffle_epi8(table(tables.low), index);
  __m256i high = _mm256_add_epi8(_mm256_or_si256(sign, shifted), _mm256_shuffle_epi8(table(tables.high), index));
  if constexpr (with_small) {
    const __m256i small = _mm256_cmpeq_epi8(_mm256_and_si256(code, _mm256_set1_epi8(0x78)), _mm256_setzero_si256());
    if (!_mm256_testz_si256(small, small)) [[unlikely]] {
      const __m256i small_high = _mm256_or_si256(sign, _mm256_shuffle_epi8(table(tables.small_high), index));
      low = _mm256_blendv_epi8(low, _mm256_shuffle_epi8(table(tables.small_low), index), small);
      high = _mm256_blendv_epi8(high, small_high, small);
    }
  }
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
#endif
}

inline Unpacked unpack_bf16(const std::uint16_t* weights) noexcept {
  const Bits first = loaded_once(load_bits(weights)), second = loaded_once(load_bits(weights + part_elements / 2));
#if defined(__AVX512F__)
  return {_mm512_shuffle_i64x2(first, second, 0x88), _mm512_shuffle_i64x2(first, second, 0xdd)};
#else
  return {_mm256_permute2x128_si256(first, second, 0x20), _mm256_permute2x128_si256(first, second, 0x31)};
#endif
}

// 16 FP8 codes as fp32, exactly: E4M3 subnormals through a number whose exponent they share.
inline Lanes decode_fp8(const std::uint8_t* codes) noexcept {
  Lanes out;
  for (int part = 0; part < parts; ++part) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
#if defined(__AVX512F__)
    const __m512i code = _mm512_cvtepu8_epi32(bytes);
    const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(code, _mm512_set1_epi32(0x80)), 24);
    const __m512i magnitude = _mm512_slli_epi32(_mm512_and_si512(code, _mm512_set1_epi32(0x7f)), 20);
    const __m512 normal = _mm512_castsi512_ps(_mm512_add_epi32(magnitude, _mm512_set1_epi32(120 << 23)));
    const __m512 small = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_add_epi32(magnitude, _mm512_set1_epi32(121 << 23))),
                                       _mm512_set1_ps(0x1p-6f));
    const __mmask16 is_small = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(8 << 20));
    __m512 value = _mm512_mask_blend_ps(is_small, normal, small);
    const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f << 20));
    value = _mm512_mask_blend_ps(is_nan, value, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
    out.part[0] = _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), sign));
#else
    const __m256i code = _mm256_cvtepu8_epi32(part == 0 ? bytes : _mm_srli_si128(bytes, 8));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x80)), 24);
    const __m256i magnitude = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x7f)), 20);
    const __m256 normal = _mm256_castsi256_ps(_mm256_add_epi32(magnitude, _mm256_set1_epi32(120 << 23)));
    const __m256 small = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_add_epi32(magnitude, _mm256_set1_epi32(121 << 23))),
                                       _mm256_set1_ps(0x1p-6f));
    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(8 << 20), magnitude);
    __m256 value = _mm256_blendv_ps(normal, small, _mm256_castsi256_ps(is_small));
    const __m256i is_nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f << 20));
    value = _mm256_blendv_ps(value, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), _mm256_castsi256_ps(is_nan));
    out.part[part] = _mm256_castsi256_ps(_mm256_or_si256(_mm256_castps_si256(value), sign));
#endif
  }
  return out;
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
