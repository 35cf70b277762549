// The inner loops of gqa_attention for one ISA tier, included by its kernel source only: keys laid out for 16 scores
// side by side, scores of several heads, values weighted for several heads.
#pragma once

#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

// Heads of a tile and vectors of 16 beside each other: as many sums as the registers hold beside their operands.
constexpr int most_heads = Lanes::parts == 1 ? 8 : 6;
constexpr int wide = Lanes::parts == 1 ? 2 : 1;

// body.operator()<heads>() for a count from 1 to most_heads.
template <class Body>
[[gnu::always_inline]] inline void with_heads(std::int64_t heads, Body&& body) noexcept {
  switch (heads) {
    case 1:
      return body.template operator()<1>();
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    case 4:
      return body.template operator()<4>();
    case 5:
      return body.template operator()<5>();
    case 6:
      return body.template operator()<6>();
    default:
      break;
  }
  if constexpr (most_heads == 8) return heads == 7 ? body.template operator()<7>() : body.template operator()<8>();
}

// Calls body.operator()<heads>(first head) for tiles of about equal size.
template <class Body>
[[gnu::always_inline]] inline void for_head_tiles(std::int64_t group, Body&& body) noexcept {
  const std::int64_t tiles = (group + most_heads - 1) / most_heads, size = (group + tiles - 1) / tiles;
  for (std::int64_t head = 0; head < group; head += size)
    with_heads(
        group - head < size ? group - head : size, [&]<int heads>() __attribute__((always_inline)) {
          body.template operator()<heads>(head);
        });
}

// Words of 32 bits of 16 rows become 16 columns: row r, word c to target[c][r]. AVX2 does it in quarters.
#if defined(__AVX512F__)
using Words = __m512i;
constexpr int words = 16;
inline void transpose(const char* const* rows, std::int64_t at, Words (&out)[16]) noexcept {
  __m512i a[16], b[16];
  for (int r = 0; r < 16; ++r) a[r] = _mm512_loadu_si512(rows[r] + at);
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  // a[4 i + c] holds, for rows 4 i to 4 i + 3, word c in its first 128 bits, c + 4, c + 8 and c + 12 in the others.
  for (int c = 0; c < 4; ++c) {
    const __m512i low = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88), high = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    const __m512i low2 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88),
                  high2 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
    out[c] = _mm512_shuffle_i32x4(low, low2, 0x88);
    out[c + 8] = _mm512_shuffle_i32x4(low, low2, 0xdd);
    out[c + 4] = _mm512_shuffle_i32x4(high, high2, 0x88);
    out[c + 12] = _mm512_shuffle_i32x4(high, high2, 0xdd);
  }
}
inline void store_words(Words value, float* target) noexcept {
  _mm512_storeu_si512(target, value);
}
inline Words low_halves(Words pairs) noexcept {
  return _mm512_slli_epi32(pairs, 16);
}
inline Words high_halves(Words pairs) noexcept {
  return _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}
#else
using Words = __m256i;
constexpr int words = 8;
inline void transpose(const char* const* rows, std::int64_t at, Words (&out)[8]) noexcept {
  __m256i a[8], b[8];
  for (int r = 0; r < 8; ++r) a[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + at));
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    a[4 * i] = _mm256_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm256_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm256_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm256_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    out[c] = _mm256_permute2x128_si256(a[c], a[4 + c], 0x20);
    out[c + 4] = _mm256_permute2x128_si256(a[c], a[4 + c], 0x31);
  }
}
inline void store_words(Words value, float* target) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), value);
}
inline Words low_halves(Words pairs) noexcept {
  return _mm256_slli_epi32(pairs, 16);
}
inline Words high_halves(Words pairs) noexcept {
  return _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
}
#endif

inline float widened(float value) noexcept {
  return value;
}
inline float widened(std::uint16_t value) noexcept {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float wide_value;
  std::memcpy(&wide_value, &bits, sizeof bits);
  return wide_value;
}

// 16 keys of `dim` elements become (dim, 16) in fp32.
template <class T>
void pack_keys(const char* const (&keys)[16], std::int64_t dim, float* panel) noexcept {
  constexpr int pairs = sizeof(T) == 2 ? 2 : 1;
  constexpr std::int64_t step = words * pairs;
  std::int64_t e = 0;
  for (; e + step <= dim; e += step)
    for (int rows = 0; rows < 16; rows += words) {
      Words columns[words];
      transpose(keys + rows, e * static_cast<std::int64_t>(sizeof(T)), columns);
      for (int c = 0; c < words; ++c) {
        float* target = panel + (e + c * pairs) * 16 + rows;
        store_words(pairs == 2 ? low_halves(columns[c]) : columns[c], target);
        if (pairs == 2) store_words(high_halves(columns[c]), target + 16);
      }
    }
  for (; e < dim; ++e)
    for (int r = 0; r < 16; ++r) panel[e * 16 + r] = widened(reinterpret_cast<const T*>(keys[r])[e]);
}

// What the tiles to come will read, asked for little by little while the present one multiplies: a burst of requests
// would wait for memory. Null where nothing is to come.
[[gnu::always_inline]] inline const char* prefetched(const char* ahead, std::int64_t bytes) noexcept {
  if (ahead == nullptr) return ahead;
  _mm_prefetch(ahead, _MM_HINT_T1);
  return ahead + bytes;
}

// Products of `Heads` queries with the keys of `Panels` panels. q: (Heads, dim), scores: (Heads, stride). As many bytes
// as the keys have in bf16 are prefetched from `ahead`.
template <int Heads, int Panels>
void score_tile(const float* q, std::int64_t dim, const float* panels, float* scores, std::int64_t stride,
                const char* ahead) noexcept {
  Lanes sum[Heads][Panels];
  for (auto& of_head : sum)
    for (Lanes& lanes : of_head) lanes = Lanes::zero();
  for (std::int64_t e = 0; e < dim; ++e) {
    Lanes key[Panels];
    for (int p = 0; p < Panels; ++p) key[p] = Lanes::load(panels + (p * dim + e) * 16);
    ahead = prefetched(ahead, 32 * Panels);
#pragma GCC unroll 8
    for (int h = 0; h < Heads; ++h) {
      const Lanes query = Lanes::broadcast(q[h * dim + e]);
      for (int p = 0; p < Panels; ++p) sum[h][p] = fma(query, key[p], sum[h][p]);
    }
  }
  for (int h = 0; h < Heads; ++h)
    for (int p = 0; p < Panels; ++p) sum[h][p].store(scores + h * stride + 16 * p);
}

// Adds weighted values to 16 * Vectors dimensions of `Heads` sums. weights: (Heads, stride), values: (keys, dim),
// out: (Heads, dim). As many bytes as the values have in bf16 are prefetched from `ahead`.
template <int Heads, int Vectors>
void weigh_tile(const float* weights, std::int64_t stride, const float* values, std::int64_t keys, std::int64_t dim,
                float* out, const char* ahead) noexcept {
  Lanes sum[Heads][Vectors];
  for (int h = 0; h < Heads; ++h)
    for (int v = 0; v < Vectors; ++v) sum[h][v] = Lanes::load(out + h * dim + 16 * v);
  for (std::int64_t key = 0; key < keys; ++key, values += dim) {
    Lanes value[Vectors];
    for (int v = 0; v < Vectors; ++v) value[v] = Lanes::load(values + 16 * v);
    ahead = prefetched(ahead, 32 * Vectors);
#pragma GCC unroll 8
    for (int h = 0; h < Heads; ++h) {
      const Lanes weight = Lanes::broadcast(weights[h * stride + key]);
      for (int v = 0; v < Vectors; ++v) sum[h][v] = fma(weight, value[v], sum[h][v]);
    }
  }
  for (int h = 0; h < Heads; ++h)
    for (int v = 0; v < Vectors; ++v) sum[h][v].store(out + h * dim + 16 * v);
}

// The last `count` < 16 dimensions of one sum.
inline void weigh_rest(const float* weights, const float* values, std::int64_t keys, std::int64_t dim,
                       std::int64_t count, float* out) noexcept {
  Lanes sum = Lanes::load_first(out, count);
  for (std::int64_t key = 0; key < keys; ++key)
    sum = fma(Lanes::broadcast(weights[key]), Lanes::load_first(values + key * dim, count), sum);
  sum.store_first(out, count);
}

template <int Heads>
void weigh_heads(const float* weights, std::int64_t stride, const float* values, std::int64_t keys, std::int64_t dim,
                 float* out, const char* ahead) noexcept {
  std::int64_t e = 0;
  const auto ahead_of_tile = [&] { return ahead == nullptr ? ahead : ahead + 2 * e * keys; };
  for (; e + 16 * wide <= dim; e += 16 * wide)
    weigh_tile<Heads, wide>(weights, stride, values + e, keys, dim, out + e, ahead_of_tile());
  for (; e + 16 <= dim; e += 16) weigh_tile<Heads, 1>(weights, stride, values + e, keys, dim, out + e, ahead_of_tile());
  if (e < dim)
    for (int h = 0; h < Heads; ++h) weigh_rest(weights + h * stride, values + e, keys, dim, dim - e, out + h * dim + e);
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
