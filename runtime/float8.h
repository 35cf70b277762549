// F8_E4M3 (the "FN" form: no infinities, 0x7F and 0xFF are NaN, largest 448) and F8_E8M0 (a power of two).
// These scalar decoders are the definition that every kernel matches bit for bit.
// Source: OCP 8-bit Floating Point Specification; safetensors dtype F8_E4M3.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace millrace {

inline float e4m3_to_f32(std::uint8_t code) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  const std::uint32_t exponent = (code >> 3) & 15u, mantissa = code & 7u;
  if ((code & 0x7fu) == 0x7fu) return std::numeric_limits<float>::quiet_NaN();
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (mantissa << 20));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  return sign ? -magnitude : magnitude;
}

inline bool e4m3_is_nan(std::uint8_t code) noexcept {
  return (code & 0x7fu) == 0x7fu;
}

// 2^(code - 127); 0xFF is NaN. 2^-127 is a binary32 denormal.
inline float e8m0_to_f32(std::uint8_t code) noexcept {
  if (code == 0xff) return std::numeric_limits<float>::quiet_NaN();
  if (code == 0) return std::bit_cast<float>(0x00400000u);
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 23);
}

}  // namespace millrace
