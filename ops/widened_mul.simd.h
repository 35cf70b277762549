// Multiplying bf16 weights and inputs as fp32: one of the two ways of ops/linear.simd.h. Included by kernel sources
// only.
#pragma once

#include "ops/unpack.simd.h"
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

inline Vector fma_part(Vector a, Vector b, Vector c) noexcept {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#else
  return _mm256_fmadd_ps(a, b, c);
#endif
}

inline Vector load_part(const float* source) noexcept {
#if defined(__AVX512F__)
  return _mm512_loadu_ps(source);
#else
  return _mm256_loadu_ps(source);
#endif
}

inline void store_part(Vector value, float* target) noexcept {
#if defined(__AVX512F__)
  _mm512_storeu_ps(target, value);
#else
  _mm256_storeu_ps(target, value);
#endif
}

// The odd and the even bf16 of each pair, widened.
inline Vector odd_half(Bits pairs) noexcept {
#if defined(__AVX512F__)
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
#else
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
#endif
}
inline Vector even_half(Bits pairs) noexcept {
#if defined(__AVX512F__)
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
#else
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
#endif
}

// Makes the multiply-adds before it overwrite their sums: GCC 12 would else overwrite a factor at its last use, and
// copy sums from register to register.
[[gnu::always_inline]] inline void still_needed(Vector factor) noexcept {
  asm volatile("" : : "v"(factor));
}

// fp32 multiply-adds; a group is 16 odd and 16 even positions as floats.
struct WidenedMul {
  using Element = float;
  static constexpr int width = Lanes::part_width;
  static constexpr int rows = 3, outputs = parts == 1 ? 8 : 4;  // a tile's accumulators leave registers for operands
  static constexpr int few_rows = parts == 1 ? 4 : 1;

  static void store(Bits pairs, float* group, int part) noexcept {
    store_part(odd_half(pairs), group + part * width);
    store_part(even_half(pairs), group + 16 + part * width);
  }
  static void spread(const std::uint16_t* packed, float* group) noexcept {
    for (int part = 0; part < parts; ++part) store(load_bits(packed + part * 2 * width), group, part);
  }
  static const float* hold(const std::uint16_t* packed, std::int64_t padded, float* target, bool held) noexcept {
    for (std::int64_t q = held ? padded : 0; q < padded; q += 32) spread(packed + q, target + q);
    return target;
  }
  static Vector add(Vector sum, Bits weights, const float* group, int part) noexcept {
    sum = fma_part(load_part(group + part * width), odd_half(weights), sum);
    return fma_part(load_part(group + 16 + part * width), even_half(weights), sum);
  }
  template <int R>
  static void add_tile(Vector (&acc)[R][outputs], const float* x, const float* w, int part) noexcept {
#pragma GCC unroll 2
    for (int half = 0; half < 32; half += 16) {
      Vector inputs[R];
      for (int r = 0; r < R; ++r) inputs[r] = load_part(x + r * 32 + half + part * width);
#pragma GCC unroll 8
      for (int n = 0; n < outputs; ++n) {
        const Vector weight = loaded_once(load_part(w + n * 32 + half + part * width));
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r) acc[r][n] = fma_part(inputs[r], weight, acc[r][n]);
        still_needed(weight);
      }
#pragma GCC unroll 3
      for (int r = 0; r < R; ++r) still_needed(inputs[r]);
    }
  }
  static Vector load_sums(const float* source) noexcept {
    return load_part(source);
  }
  static void store_sums(Vector value, float* target) noexcept {
    store_part(value, target);
  }
};

}  // namespace
}  // namespace millrace::MILLRACE_ISA
