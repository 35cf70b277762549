#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {

float peak_dpbf16(std::int64_t steps) noexcept {
  const auto factor = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  __m512 acc[16];
  for (int i = 0; i < 16; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));  // chains that no compiler can merge
  for (std::int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 16
    for (auto& chain : acc) chain = _mm512_dpbf16_ps(chain, factor, factor);
  float sum = 0;
  for (auto& chain : acc) sum += _mm512_cvtss_f32(chain);
  return sum;
}

}  // namespace millrace::MILLRACE_ISA
