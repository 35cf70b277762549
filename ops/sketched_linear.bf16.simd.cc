// The kernel by VNNI, which this tier has too: four products are added at a time.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace millrace::MILLRACE_ISA {
namespace {

constexpr std::int64_t ahead_bytes = 4096;  // from what is read to what is asked for

inline __m512i add_word(__m512i sums, std::uint64_t word, const std::int8_t* q) noexcept {
  return _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(_cvtu64_mask64(word), q));
}

}  // namespace

void bit_sums(const std::uint64_t* bits, std::int64_t words, const std::int8_t* q, std::int64_t begin, std::int64_t end,
              std::int32_t* sums) noexcept {
  for (std::int64_t o = begin; o < end; ++o) {
    const std::uint64_t* row = bits + o * words;
    __m512i part[4] = {};
    std::int64_t w = 0;
    for (; w + 8 <= words; w += 8) {
      _mm_prefetch(reinterpret_cast<const char*>(row + w) + ahead_bytes, _MM_HINT_T0);
      for (int i = 0; i < 8; ++i) part[i % 4] = add_word(part[i % 4], row[w + i], q + (w + i) * 64);
    }
    for (; w < words; ++w) part[0] = add_word(part[0], row[w], q + w * 64);
    sums[o - begin] = _mm512_reduce_add_epi32(
        _mm512_add_epi32(_mm512_add_epi32(part[0], part[1]), _mm512_add_epi32(part[2], part[3])));
  }
}

}  // namespace millrace::MILLRACE_ISA
