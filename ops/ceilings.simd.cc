#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

template <bool prefetches>
std::int32_t read(const std::byte* source, std::int64_t bytes) noexcept {
  __m256i acc[4] = {};
  for (std::int64_t i = 0; i < bytes; i += 256) {
    for (int line = 0; line < 4; ++line) {
      const std::byte* at = source + i + line * 64;
      if constexpr (prefetches) {
        _mm_prefetch(reinterpret_cast<const char*>(at) + 16384, _MM_HINT_T1);
        _mm_prefetch(reinterpret_cast<const char*>(at) + 2048, _MM_HINT_T0);
      }
#if defined(__AVX512F__)
      const __m512i value = _mm512_loadu_si512(at);
      acc[line] = _mm256_xor_si256(
          acc[line], _mm256_xor_si256(_mm512_castsi512_si256(value), _mm512_extracti64x4_epi64(value, 1)));
#else
      const auto* vectors = reinterpret_cast<const __m256i*>(at);
      acc[line] =
          _mm256_xor_si256(acc[line], _mm256_xor_si256(_mm256_loadu_si256(vectors), _mm256_loadu_si256(vectors + 1)));
#endif
    }
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(acc[0], acc[1]), _mm256_xor_si256(acc[2], acc[3]));
  return _mm256_extract_epi32(all, 0) ^ _mm256_extract_epi32(all, 5);
}

}  // namespace

std::int32_t read_stream(const std::byte* source, std::int64_t bytes) noexcept {
  return read<true>(source, bytes);
}

std::int32_t raw_read(const std::byte* source, std::int64_t bytes) noexcept {
  return read<false>(source, bytes);
}

// 16 chains of 16 lanes: AVX2 has not the registers for them, so it walks them in two halves.
float peak_fma(std::int64_t steps) noexcept {
  const Lanes::Part factor(1.0001f), term(0.9999f);
  constexpr int chains = Lanes::parts == 1 ? 16 : 8;
  Lanes::Part acc[chains];
  for (int i = 0; i < chains; ++i) acc[i] = Lanes::Part(static_cast<float>(i));  // chains that no compiler can merge
  for (std::int64_t step = 0; step < steps * 16 * Lanes::parts / chains; ++step)
#pragma GCC unroll 16
    for (auto& chain : acc)
#if defined(__AVX512F__)
      chain = _mm512_fmadd_ps(chain, factor, term);
#else
      chain = _mm256_fmadd_ps(chain, factor, term);
#endif
  float sum = 0;
  for (auto& chain : acc) sum += chain.get(0);
  return sum;
}

}  // namespace millrace::MILLRACE_ISA
