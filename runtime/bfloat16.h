// bfloat16: the upper half of an IEEE binary32. These scalar conversions are the definition that every kernel matches
// bit for bit.
#pragma once

#include <bit>
#include <cstdint>

namespace millrace {

using Bfloat16 = std::uint16_t;  // the bit pattern; a strong type would only get in the way of kernels

inline float bf16_to_f32(Bfloat16 bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Round to nearest, ties to even. A NaN stays a NaN (made quiet), infinities stay, overflow goes to infinity.
inline Bfloat16 bf16_from_f32(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<Bfloat16>((bits >> 16) | 0x40u);
  return static_cast<Bfloat16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float round_to_bf16(float value) noexcept {
  return bf16_to_f32(bf16_from_f32(value));
}

}  // namespace millrace
