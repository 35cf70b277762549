#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace millrace::MILLRACE_ISA {
namespace {

#if defined(__AVX512BW__)

// The x whose bits are set, summed by eights.
inline __m512i sums_of(std::uint64_t word, const std::uint8_t* x) noexcept {
  return _mm512_sad_epu8(_mm512_maskz_loadu_epi8(_cvtu64_mask64(word), x), _mm512_setzero_si512());
}

std::int64_t sum_of_row(const std::uint64_t* bits, std::int64_t words, const std::uint8_t* x) noexcept {
  __m512i even = _mm512_setzero_si512(), odd = even;
  std::int64_t w = 0;
  for (; w + 2 <= words; w += 2) {
    even = _mm512_add_epi64(even, sums_of(bits[w], x + w * 64));
    odd = _mm512_add_epi64(odd, sums_of(bits[w + 1], x + w * 64 + 64));
  }
  if (w < words) even = _mm512_add_epi64(even, sums_of(bits[w], x + w * 64));
  return _mm512_reduce_add_epi64(_mm512_add_epi64(even, odd));
}

#else

// The same for 32 of them: byte i of the mask looks at bit i % 8 of byte i / 8.
inline __m256i sums_of(std::uint32_t word, const std::uint8_t* x) noexcept {
  const __m256i spread =
      _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(word)), spread);
  const __m256i mask = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
  const __m256i values = _mm256_and_si256(mask, _mm256_load_si256(reinterpret_cast<const __m256i*>(x)));
  return _mm256_sad_epu8(values, _mm256_setzero_si256());
}

std::int64_t sum_of_row(const std::uint64_t* bits, std::int64_t words, const std::uint8_t* x) noexcept {
  __m256i low = _mm256_setzero_si256(), high = low;
  for (std::int64_t w = 0; w < words; ++w) {
    low = _mm256_add_epi64(low, sums_of(static_cast<std::uint32_t>(bits[w]), x + w * 64));
    high = _mm256_add_epi64(high, sums_of(static_cast<std::uint32_t>(bits[w] >> 32), x + w * 64 + 32));
  }
  const __m256i both = _mm256_add_epi64(low, high);
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return _mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1);
}

#endif

}  // namespace

void bit_sums(const std::uint64_t* bits, std::int64_t words, const std::uint8_t* x, std::int64_t begin,
              std::int64_t end, std::int32_t* sums) noexcept {
  for (std::int64_t o = begin; o < end; ++o) {
    const std::uint64_t* row = bits + o * words;
    std::int64_t ones = 0;
    for (std::int64_t w = 0; w < words; ++w) ones += __builtin_popcountll(row[w]);
    sums[o - begin] = static_cast<std::int32_t>(sum_of_row(row, words, x) - 128 * ones);
  }
}

}  // namespace millrace::MILLRACE_ISA
