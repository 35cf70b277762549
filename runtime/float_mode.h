// FloatMode: a scope in which this thread computes with round-to-nearest and flushed denormals; the previous mode of
// the thread comes back at its end. Used around the bodies of parallel regions and by tests that call kernels directly.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace millrace {

class FloatMode {
 public:
#if defined(__SSE__)
  FloatMode() noexcept : saved_(_mm_getcsr()) {
    _mm_setcsr(masked_exceptions | flush_to_zero | denormals_are_zero);
  }
  ~FloatMode() {
    _mm_setcsr(saved_);
  }
#else
  FloatMode() noexcept {}
#endif
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
#if defined(__SSE__)
  static constexpr unsigned masked_exceptions = 0x1f80, flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
  unsigned saved_;
#endif
};

}  // namespace millrace
