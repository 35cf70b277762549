// The inner loops of gqa_attention for one ISA tier, included by its kernel source only: 16 scores side by side of
// several heads, values weighted for several heads. Elements of keys and values are bf16 or fp32.
#pragma once

#include "ops/gqa_ahead.simd.h"
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

// A line of 16 words of 32 bits.
#if defined(__AVX512F__)
struct Line {
  __m512i bits;
  static Line load(const void* source) noexcept { return {_mm512_loadu_si512(source)}; }
  // The bf16 values in the low or the high halves of the words, widened.
  Lanes low() const noexcept { return of(_mm512_slli_epi32(bits, 16)); }
  Lanes high() const noexcept { return of(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))); }

 private:
  static Lanes of(__m512i words) noexcept {
    Lanes lanes;
    lanes.part[0] = _mm512_castsi512_ps(words);
    return lanes;
  }
};
#else
struct Line {
  __m256i bits[2];
  static Line load(const void* source) noexcept {
    const auto* halves = static_cast<const __m256i*>(source);
    return {{_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)}};
  }
  Lanes low() const noexcept { return of(_mm256_slli_epi32(bits[0], 16), _mm256_slli_epi32(bits[1], 16)); }
  Lanes high() const noexcept {
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return of(_mm256_and_si256(bits[0], mask), _mm256_and_si256(bits[1], mask));
  }

 private:
  static Lanes of(__m256i first, __m256i second) noexcept {
    Lanes lanes;
    lanes.part[0] = _mm256_castsi256_ps(first);
    lanes.part[1] = _mm256_castsi256_ps(second);
    return lanes;
  }
};
#endif

// Element e of 16 keys, or e + 1 (`Second`), e being even, from the line of its word.
template <bool Second, class T>
[[gnu::always_inline]] inline Lanes keys_at(const T* line) noexcept {
  if constexpr (sizeof(T) == 4)
    return Lanes::load(line + (Second ? 16 : 0));
  else
    return Second ? Line::load(line).high() : Line::load(line).low();
}

// A panel of keys in fp32.
inline void widen_panel(const std::uint16_t* panel, std::int64_t dim, float* target) noexcept {
  for (std::int64_t e = 0; e < dim; e += 2) {
    keys_at<false>(panel + e * 16).store(target + e * 16);
    if (e + 1 < dim) keys_at<true>(panel + e * 16).store(target + e * 16 + 16);
  }
}

// Asks for a line of what is to come, and for one of what is at hand, `here`, that goes on into the first cache.
template <class T>
[[gnu::always_inline]] inline const char* look_ahead(const char* ahead, const T* here) noexcept {
  if (sizeof(T) == 4 && ahead == nullptr) return ahead;
  _mm_prefetch(ahead, _MM_HINT_T1);
  if constexpr (sizeof(T) == 2) _mm_prefetch(reinterpret_cast<const char*>(here) + Ahead::near, _MM_HINT_T0);
  return ahead + 64;
}

// What a loop over bf16 values asks for where nothing is to come: a test for each line costs more than the request.
template <class T>
const char* or_own(const char* ahead, const T* own) noexcept {
  return sizeof(T) == 2 && ahead == nullptr ? reinterpret_cast<const char*>(own) : ahead;
}

// Products of `Heads` queries with the keys of `Panels` panels, `panel` elements apart. q: (Heads, dim), scores:
// (Heads, stride).
template <int Heads, int Panels, class T>
[[gnu::always_inline]] inline void score_tile(const float* q, std::int64_t dim, const T* keys, std::int64_t panel,
                                              float* scores, std::int64_t stride, const char* ahead) noexcept {
  ahead = or_own(ahead, keys);
  Lanes sum[Heads][Panels];
  // Unrolled, all of these loops leave the sums in registers.
#pragma GCC unroll 8
  for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 2
    for (int p = 0; p < Panels; ++p) sum[h][p] = Lanes::zero();
  for (std::int64_t e = 0; e + 1 < dim; e += 2) {
    Lanes key[Panels], next[Panels];
#pragma GCC unroll 2
    for (int p = 0; p < Panels; ++p) {
      const T* line = keys + p * panel + e * 16;
      ahead = look_ahead(ahead, line);
      key[p] = keys_at<false>(line);
      next[p] = keys_at<true>(line);
    }
#pragma GCC unroll 8
    for (int h = 0; h < Heads; ++h) {
      const Lanes query = Lanes::broadcast(q[h * dim + e]), query_next = Lanes::broadcast(q[h * dim + e + 1]);
#pragma GCC unroll 2
      for (int p = 0; p < Panels; ++p) sum[h][p] = fma(query_next, next[p], fma(query, key[p], sum[h][p]));
    }
  }
  if (dim % 2 != 0)
#pragma GCC unroll 8
    for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 2
      for (int p = 0; p < Panels; ++p)
        sum[h][p] =
            fma(Lanes::broadcast(q[h * dim + dim - 1]), keys_at<false>(keys + p * panel + (dim - 1) * 16), sum[h][p]);
#pragma GCC unroll 8
  for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 2
    for (int p = 0; p < Panels; ++p) sum[h][p].store(scores + h * stride + 16 * p);
}

// The same for `count` panels, one after another, and for what comes after them. `Dim` is that of the keys, or 0 for
// any: where it is known, a query's elements have fixed places, which saves the addition of an index in each multiply.
template <int Heads, int Dim, class T>
void score_panels_of(const float* q, std::int64_t any_dim, const T* keys, std::int64_t count, float* scores,
                     std::int64_t stride, Ahead* ahead) noexcept {
  // From memory, one stream is faster than two where one panel keeps the multipliers busy.
  constexpr int together = sizeof(T) == 2 && Heads >= 6 ? 1 : wide;
  const std::int64_t dim = Dim > 0 ? Dim : any_dim;
  const std::int64_t panel = KeyPanels::panel_bytes(dim, sizeof(T)) / static_cast<std::int64_t>(sizeof(T));
  const auto next = [&]<int panels>() __attribute__((always_inline)) {
    score_tile<Heads, panels>(q, dim, keys, panel, scores, stride,
                              ahead != nullptr ? ahead->take(panels * dim * 32) : nullptr);
    keys += panels * panel;
    scores += 16 * panels;
    count -= panels;
  };
  while (count >= together) next.template operator()<together>();
  while (count > 0) next.template operator()<1>();
}
template <int Heads, class T>
void score_panels(const float* q, std::int64_t dim, const T* keys, std::int64_t count, float* scores,
                  std::int64_t stride, Ahead* ahead) noexcept {
  if constexpr (sizeof(T) == 2) {
    if (dim == 128) return score_panels_of<Heads, 128>(q, dim, keys, count, scores, stride, ahead);
    if (dim == 192) return score_panels_of<Heads, 192>(q, dim, keys, count, scores, stride, ahead);
  }
  score_panels_of<Heads, 0>(q, dim, keys, count, scores, stride, ahead);
}

// The same for one panel, of whose scores those of lanes [first, end) are written.
template <int Heads, class T>
void score_part(const float* q, std::int64_t dim, const T* keys, std::int64_t first, std::int64_t end, float* scores,
                std::int64_t stride, Ahead* ahead) noexcept {
  alignas(64) float all[Heads * 16];
  score_panels<Heads>(q, dim, keys, 1, all, 16, ahead);
  for (int h = 0; h < Heads; ++h)
    for (std::int64_t lane = first; lane < end; ++lane) scores[h * stride + lane] = all[h * 16 + lane];
}

// Vectors `first` on of the two in 32 dimensions: of bf16 values those of the even ones and of the odd ones, which
// saves sorting them; sums follow, until interleave() puts them in order.
template <int Vectors>
[[gnu::always_inline]] inline void load_values(const float* values, int first, Lanes (&value)[Vectors]) noexcept {
  for (int v = 0; v < Vectors; ++v) value[v] = Lanes::load(values + 16 * (first + v));
}
template <int Vectors>
[[gnu::always_inline]] inline void load_values(const std::uint16_t* values, int first,
                                               Lanes (&value)[Vectors]) noexcept {
  const Line line = Line::load(values);
  if constexpr (Vectors == 2) {
    value[0] = line.low();
    value[1] = line.high();
  } else {
    value[0] = first == 0 ? line.low() : line.high();
  }
}
inline void interleave(float* sums) noexcept {
  const Lanes even = Lanes::load(sums), odd = Lanes::load(sums + 16);
  Lanes low, high;
#if defined(__AVX512F__)
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  low.part[0] = _mm512_permutex2var_ps(even.part[0], first, odd.part[0]);
  high.part[0] = _mm512_permutex2var_ps(even.part[0], second, odd.part[0]);
#else
  for (int p = 0; p < 2; ++p) {
    const __m256 a = _mm256_unpacklo_ps(even.part[p], odd.part[p]), b = _mm256_unpackhi_ps(even.part[p], odd.part[p]);
    Lanes& half = p == 0 ? low : high;
    half.part[0] = _mm256_permute2f128_ps(a, b, 0x20);
    half.part[1] = _mm256_permute2f128_ps(a, b, 0x31);
  }
#endif
  low.store(sums);
  high.store(sums + 16);
}

// Adds weighted values, `Vectors` vectors from `first` on, to sums of `Heads` heads. weights: (Heads, stride), values:
// (keys, dim), out: (Heads, dim).
template <int Heads, int Vectors, class T>
void weigh_tile(const float* weights, std::int64_t stride, const T* values, int first, std::int64_t keys,
                std::int64_t dim, float* out, const char* ahead) noexcept {
  ahead = or_own(ahead, values);
  out += 16 * first;
  Lanes sum[Heads][Vectors];
#pragma GCC unroll 8
  for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[h][v] = Lanes::load(out + h * dim + 16 * v);
  for (std::int64_t key = 0; key < keys; ++key, values += dim) {
    ahead = look_ahead(ahead, values);
    Lanes value[Vectors];
    load_values(values, first, value);
#pragma GCC unroll 8
    for (int h = 0; h < Heads; ++h) {
      const Lanes weight = Lanes::broadcast(weights[h * stride + key]);
      for (int v = 0; v < Vectors; ++v) sum[h][v] = fma(weight, value[v], sum[h][v]);
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < Heads; ++h)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[h][v].store(out + h * dim + 16 * v);
}

inline Lanes load_first(const float* source, std::int64_t count) noexcept {
  return Lanes::load_first(source, count);
}
inline Lanes load_first(const std::uint16_t* source, std::int64_t count) noexcept {
  return Lanes::load_bf16_first(source, count);
}

// `count` <= 16 dimensions of one sum.
template <class T>
void weigh_rest(const float* weights, const T* values, std::int64_t keys, std::int64_t dim, std::int64_t count,
                float* out) noexcept {
  Lanes sum = Lanes::load_first(out, count);
  for (std::int64_t key = 0; key < keys; ++key)
    sum = fma(Lanes::broadcast(weights[key]), load_first(values + key * dim, count), sum);
  sum.store_first(out, count);
}

template <int Heads, class T>
void weigh_heads(const float* weights, std::int64_t stride, const T* values, std::int64_t keys, std::int64_t dim,
                 float* out, const char* ahead) noexcept {
  std::int64_t e = 0;
  for (; e + 32 <= dim; e += 32)
    for (int first = 0; first < 2; first += wide)
      weigh_tile<Heads, wide>(weights, stride, values + e, first, keys, dim, out + e,
                              first == 0 && ahead != nullptr ? ahead + 2 * e * keys : nullptr);
  for (; e < dim; e += 16)
    for (int h = 0; h < Heads; ++h)
      weigh_rest(weights + h * stride, values + e, keys, dim, dim - e < 16 ? dim - e : 16, out + h * dim + e);
}

}  // namespace
}  // namespace millrace::MILLRACE_ISA
