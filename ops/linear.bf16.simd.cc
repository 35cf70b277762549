#include "ops/linear.simd.h"
#include "ops/widened_mul.simd.h"

namespace millrace::MILLRACE_ISA {
namespace {

__m512bh as_bf16(__m512i bits) noexcept {
  return reinterpret_cast<__m512bh>(bits);
}

// vdpbf16ps: the odd element of each pair first, then the even one; a group is 32 bf16.
struct PairMul {
  using Element = std::uint16_t;
  static constexpr int rows = 3, outputs = 8;
  static constexpr int few_rows = 4;

  static void store(__m512i pairs, std::uint16_t* group, int) noexcept { _mm512_storeu_si512(group, pairs); }
  static void spread(const std::uint16_t* packed, std::uint16_t* group) noexcept { store(load_bits(packed), group, 0); }
  static const std::uint16_t* hold(const std::uint16_t* packed, std::int64_t, std::uint16_t*, bool) noexcept {
    return packed;
  }
  static __m512 add(__m512 sum, __m512i weights, const std::uint16_t* group, int) noexcept {
    return _mm512_dpbf16_ps(sum, as_bf16(weights), as_bf16(load_bits(group)));
  }
  template <int R>
  static void add_tile(__m512 (&acc)[R][outputs], const std::uint16_t* x, const std::uint16_t* w, int) noexcept {
    __m512i inputs[R];
    for (int r = 0; r < R; ++r) inputs[r] = load_bits(x + r * 32);
#pragma GCC unroll 8
    for (int n = 0; n < outputs; ++n) {
      const __m512i weights = load_bits(w + n * 32);
#pragma GCC unroll 3
      for (int r = 0; r < R; ++r) acc[r][n] = _mm512_dpbf16_ps(acc[r][n], as_bf16(weights), as_bf16(inputs[r]));
    }
  }
  static __m512 load_sums(const float* source) noexcept {
    return _mm512_loadu_ps(source);
  }
  static void store_sums(__m512 value, float* target) noexcept {
    _mm512_storeu_ps(target, value);
  }
};

}  // namespace

void linear_bf16(const LinearCall& call) noexcept {
  multiply<PairMul>(call);
}

void linear_bf16_widened(const LinearCall& call) noexcept {
  multiply<WidenedMul>(call);
}

}  // namespace millrace::MILLRACE_ISA
