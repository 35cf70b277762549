// Vectors for kernel sources, included only by *.simd.cc: 16 fp32 lanes on every tier, so that one source gives the
// same bits everywhere. AVX-512 holds them in one register, AVX2 in two.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <xsimd/xsimd.hpp>

namespace millrace::MILLRACE_ISA {
namespace {  // objects of a tier export their kernels and nothing else

struct Lanes {
  using Part = xsimd::batch<float>;
  static constexpr int width = 16;
  static constexpr int part_width = static_cast<int>(Part::size);
  static constexpr int parts = width / part_width;

  Part part[parts];

  static Lanes broadcast(float value) noexcept {
    Lanes r;
    for (int p = 0; p < parts; ++p) r.part[p] = Part(value);
    return r;
  }
  static Lanes zero() noexcept { return broadcast(0.0f); }

  static Lanes load(const float* source) noexcept {
    Lanes r;
    for (int p = 0; p < parts; ++p) r.part[p] = Part::load_unaligned(source + p * part_width);
    return r;
  }
  // The first `count` (0 to 16) lanes; the rest are zero. Reads nothing beyond them.
  static Lanes load_first(const float* source, std::int64_t count) noexcept {
    if (count >= width) return load(source);
    alignas(64) float padded[width] = {};
    std::memcpy(padded, source, static_cast<std::size_t>(count) * sizeof(float));
    return load(padded);
  }
  // 16 bf16 values, widened (exact).
  static Lanes load_bf16(const std::uint16_t* source) noexcept {
    Lanes r;
#if defined(__AVX512F__)
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    r.part[0] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#else
    for (int p = 0; p < parts; ++p) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + p * part_width));
      r.part[p] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
#endif
    return r;
  }
  static Lanes load_bf16_first(const std::uint16_t* source, std::int64_t count) noexcept {
    if (count >= width) return load_bf16(source);
    alignas(32) std::uint16_t padded[width] = {};
    std::memcpy(padded, source, static_cast<std::size_t>(count) * sizeof(std::uint16_t));
    return load_bf16(padded);
  }

  void store(float* target) const noexcept {
    for (int p = 0; p < parts; ++p) part[p].store_unaligned(target + p * part_width);
  }
  void store_first(float* target, std::int64_t count) const noexcept {
    if (count >= width) return store(target);
    alignas(64) float padded[width];
    store(padded);
    std::memcpy(target, padded, static_cast<std::size_t>(count) * sizeof(float));
  }

  // Lanes added in the order of the contract: lane i with i+8, then i+4, i+2, i+1.
  float sum() const noexcept {
#if defined(__AVX512F__)
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(part[0]), _mm512_extractf32x8_ps(part[0], 1));
#else
    const __m256 eight = _mm256_add_ps(part[0], part[1]);
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  float first() const noexcept {
#if defined(__AVX512F__)
    return _mm512_cvtss_f32(part[0]);
#else
    return _mm256_cvtss_f32(part[0]);
#endif
  }
  // Without a NaN; of zeros of both signs either.
  float largest() const noexcept {
#if defined(__AVX512F__)
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(part[0]), _mm512_extractf32x8_ps(part[0], 1));
#else
    const __m256 eight = _mm256_max_ps(part[0], part[1]);
#endif
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
};

inline Lanes operator+(Lanes a, const Lanes& b) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = a.part[p] + b.part[p];
  return a;
}
inline Lanes operator-(Lanes a, const Lanes& b) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = a.part[p] - b.part[p];
  return a;
}
inline Lanes operator*(Lanes a, const Lanes& b) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = a.part[p] * b.part[p];
  return a;
}
inline Lanes operator/(Lanes a, const Lanes& b) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = a.part[p] / b.part[p];
  return a;
}
// a * b + c, one rounding. (xsimd 8.1 multiplies and adds separately on AVX-512.)
inline Lanes fma(Lanes a, const Lanes& b, const Lanes& c) noexcept {
#if defined(__AVX512F__)
  a.part[0] = _mm512_fmadd_ps(a.part[0], b.part[0], c.part[0]);
#else
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = _mm256_fmadd_ps(a.part[p], b.part[p], c.part[p]);
#endif
  return a;
}
// The greater; `b` where either is a NaN.
inline Lanes max(Lanes a, const Lanes& b) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = xsimd::max(a.part[p], b.part[p]);
  return a;
}
inline Lanes min(Lanes a, const Lanes& b) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) a.part[p] = xsimd::min(a.part[p], b.part[p]);
  return a;
}

// Lanes [first, end) of `a`, any part of which may lie outside 0 to 15; `other` in the rest.
inline Lanes only(Lanes a, std::int64_t first, std::int64_t end, float other) noexcept {
  const int from = static_cast<int>(first < 0 ? 0 : first), behind = static_cast<int>(end > 16 ? 16 : end);
#if defined(__AVX512F__)
  const auto kept = static_cast<__mmask16>(((1u << behind) - 1) & ~((1u << from) - 1));
  a.part[0] = _mm512_mask_blend_ps(kept, _mm512_set1_ps(other), a.part[0]);
#else
  for (int p = 0; p < Lanes::parts; ++p) {
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(8 * p));
    const __m256i kept = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), lane),
                                             _mm256_cmpgt_epi32(_mm256_set1_epi32(behind), lane));
    a.part[p] = _mm256_blendv_ps(_mm256_set1_ps(other), a.part[p], _mm256_castsi256_ps(kept));
  }
#endif
  return a;
}

// Rounded to bf16 (nearest even) and back, as runtime/bfloat16.h does.
inline Lanes round_bf16(Lanes a) noexcept {
  for (int p = 0; p < Lanes::parts; ++p) {
    using Bits = xsimd::batch<std::uint32_t>;
    const Bits bits = xsimd::bitwise_cast<Bits>(a.part[p]);
    const Bits rounded = (bits + Bits(0x7fffu) + ((bits >> 16) & Bits(1u))) & Bits(0xffff0000u);
    const Bits quiet = (bits | Bits(0x400000u)) & Bits(0xffff0000u);
    a.part[p] = xsimd::select(xsimd::isnan(a.part[p]), xsimd::bitwise_cast<Lanes::Part>(quiet),
                              xsimd::bitwise_cast<Lanes::Part>(rounded));
  }
  return a;
}

// e^x by the steps of exp_f32 in ops/math.h, lane by lane the same bits. Inlined whatever its size: a kernel's object
// must export nothing else.
[[gnu::always_inline]] inline Lanes exp(const Lanes& x) noexcept {
  const Lanes clamped = min(Lanes::broadcast(88.376f), max(Lanes::broadcast(-87.336f), x));
  const Lanes shift = Lanes::broadcast(12582912.0f);
  const Lanes n = fma(clamped, Lanes::broadcast(1.44269504088896341f), shift) - shift;
  Lanes r = fma(n, Lanes::broadcast(-0.693145751953125f), clamped);
  r = fma(n, Lanes::broadcast(-1.42860682030941723e-6f), r);
  Lanes p = Lanes::broadcast(1.98412698e-4f);
  p = fma(p, r, Lanes::broadcast(1.38888889e-3f));
  p = fma(p, r, Lanes::broadcast(8.33333333e-3f));
  p = fma(p, r, Lanes::broadcast(4.16666667e-2f));
  p = fma(p, r, Lanes::broadcast(1.66666667e-1f));
  p = fma(p, r, Lanes::broadcast(0.5f));
  p = fma(p, r, Lanes::broadcast(1.0f));
  p = fma(p, r, Lanes::broadcast(1.0f));
  for (int i = 0; i < Lanes::parts; ++i) {
    using Bits = xsimd::batch<std::int32_t>;
    const Bits exponent = xsimd::to_int(n.part[i]) << 23;
    p.part[i] = xsimd::bitwise_cast<Lanes::Part>(xsimd::bitwise_cast<Bits>(p.part[i]) + exponent);
  }
  return p;
}

// 1 / (1 + e^-x), the bits of sigmoid_f32.
inline Lanes sigmoid(const Lanes& x) noexcept {
  const Lanes one = Lanes::broadcast(1.0f);
  return one / (one + exp(Lanes::zero() - x));
}

// Lanes::sum() of several at once, the same additions side by side: 8 on AVX-512, 4 on AVX2.
inline constexpr int sums_at_once = 8 / Lanes::parts;
inline void store_sums(const Lanes (&v)[sums_at_once], float* y, int count) noexcept {
#if defined(__AVX512F__)
  __m512 eights[4], fours[2];  // two and four sums side by side
  for (int i = 0; i < 4; ++i) {
    const __m512 a = v[2 * i].part[0], b = v[2 * i + 1].part[0];
    eights[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
  for (int i = 0; i < 2; ++i) {
    const __m512 a = eights[2 * i], b = eights[2 * i + 1];
    fours[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  }
  const __m512 twos =
      _mm512_add_ps(_mm512_shuffle_ps(fours[0], fours[1], 0x44), _mm512_shuffle_ps(fours[0], fours[1], 0xee));
  const __m512 ones = _mm512_add_ps(twos, _mm512_permute_ps(twos, 0xb1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m256 sums = _mm512_castps512_ps256(_mm512_permutexvar_ps(order, ones));
  if (count == sums_at_once) return _mm256_storeu_ps(y, sums);
#else
  __m256 eights[4], fours[2];
  for (int i = 0; i < 4; ++i) eights[i] = _mm256_add_ps(v[i].part[0], v[i].part[1]);
  for (int i = 0; i < 2; ++i) {
    const __m256 a = eights[2 * i], b = eights[2 * i + 1];
    fours[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  const __m256 twos =
      _mm256_add_ps(_mm256_shuffle_ps(fours[0], fours[1], 0x44), _mm256_shuffle_ps(fours[0], fours[1], 0xee));
  const __m256 ones = _mm256_add_ps(twos, _mm256_permute_ps(twos, 0xb1));
  const __m128 sums = _mm256_castps256_ps128(_mm256_permutevar8x32_ps(ones, _mm256_setr_epi32(0, 4, 2, 6, 0, 0, 0, 0)));
  if (count == sums_at_once) return _mm_storeu_ps(y, sums);
#endif
  std::memcpy(y, &sums, static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
