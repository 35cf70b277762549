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

// The nearest E4M3 value, ties to even; magnitudes above 448 become 448, as quantizers clamp them. A NaN stays one.
inline float round_to_e4m3(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits & 0x80000000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return value;
  const float absolute = std::bit_cast<float>(magnitude);
  float rounded = 448.0f;
  if (absolute < 0x1p-6f)
    rounded = (absolute + 0x1p14f) - 0x1p14f;  // a sum whose last bit is worth 2^-9, the subnormal step
  else if (absolute < 448.0f)
    rounded = std::bit_cast<float>((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) & 0xfff00000u);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(rounded) | sign);
}

// 2^(code - 127); 0xFF is NaN. 2^-127 is a binary32 denormal.
inline float e8m0_to_f32(std::uint8_t code) noexcept {
  if (code == 0xff) return std::numeric_limits<float>::quiet_NaN();
  if (code == 0) return std::bit_cast<float>(0x00400000u);
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 23);
}

}  // namespace millrace
