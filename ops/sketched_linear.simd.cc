#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace millrace::MILLRACE_ISA {
namespace {

constexpr std::int64_t ahead_bytes = 4096;  // from what is read to what is asked for

#if defined(__AVX512BW__)

using Sums = __m512i;  // of 32 bits

inline Sums no_sums() noexcept {
  return _mm512_setzero_si512();
}

// Adds the 64 q whose bits are set, by pairs and then by fours.
inline Sums add_word(Sums sums, std::uint64_t word, const std::int8_t* q) noexcept {
  const __m512i values = _mm512_maskz_loadu_epi8(_cvtu64_mask64(word), q);
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi8(1), values);
  return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

inline std::int32_t total(Sums a, Sums b) noexcept {
  return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}

#else

using Sums = __m256i;

inline Sums no_sums() noexcept {
  return _mm256_setzero_si256();
}

// The same for 32 of them: byte i of the mask looks at bit i % 8 of byte i / 8.
inline Sums add_half(Sums sums, std::uint32_t half, const std::int8_t* q) noexcept {
  const __m256i spread =
      _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(half)), spread);
  const __m256i mask = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
  const __m256i values = _mm256_and_si256(mask, _mm256_load_si256(reinterpret_cast<const __m256i*>(q)));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), values);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

inline Sums add_word(Sums sums, std::uint64_t word, const std::int8_t* q) noexcept {
  return add_half(add_half(sums, static_cast<std::uint32_t>(word), q), static_cast<std::uint32_t>(word >> 32), q + 32);
}

inline std::int32_t total(Sums a, Sums b) noexcept {
  const __m256i both = _mm256_add_epi32(a, b);
  __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xb1)));
}

#endif

}  // namespace

void bit_sums(const std::uint64_t* bits, std::int64_t words, const std::int8_t* q, std::int64_t begin, std::int64_t end,
              std::int32_t* sums) noexcept {
  for (std::int64_t o = begin; o < end; ++o) {
    const std::uint64_t* row = bits + o * words;
    Sums even = no_sums(), odd = no_sums();
    std::int64_t w = 0;
    for (; w + 8 <= words; w += 8) {
      _mm_prefetch(reinterpret_cast<const char*>(row + w) + ahead_bytes, _MM_HINT_T0);
      for (int i = 0; i < 8; i += 2) {
        even = add_word(even, row[w + i], q + (w + i) * 64);
        odd = add_word(odd, row[w + i + 1], q + (w + i) * 64 + 64);
      }
    }
    for (; w < words; ++w) even = add_word(even, row[w], q + w * 64);
    sums[o - begin] = total(even, odd);
  }
}

}  // namespace millrace::MILLRACE_ISA
