#include "loader/convert.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/float16.h"

namespace millrace {
namespace {

template <class T>
T load(const std::byte* data, std::int64_t index) noexcept {
  T value;
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// The first element whose bits under `mask` are all set. Without an early exit from the inner loop the compiler
// compares a vector at a time.
template <class T>
std::int64_t find_mask(const std::byte* data, std::int64_t count, T mask) noexcept {
  constexpr std::int64_t run = 4096;
  for (std::int64_t begin = 0; begin < count; begin += run) {
    const std::int64_t end = std::min(begin + run, count);
    bool found = false;
    for (std::int64_t i = begin; i < end; ++i) found |= (load<T>(data, i) & mask) == mask;
    for (std::int64_t i = begin; found && i < end; ++i)
      if ((load<T>(data, i) & mask) == mask) return i;
  }
  return -1;
}

}  // namespace

bool is_float_dtype(Dtype dtype) noexcept {
  return dtype == Dtype::bf16 || dtype == Dtype::f16 || dtype == Dtype::f32;
}

void convert_to_f32(Dtype dtype, const std::byte* data, std::int64_t count, float* out) noexcept {
  if (dtype == Dtype::f32)
    std::memcpy(out, data, static_cast<std::size_t>(count) * sizeof(float));
  else if (dtype == Dtype::bf16)
    for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_to_f32(load<Bfloat16>(data, i));
  else
    for (std::int64_t i = 0; i < count; ++i) out[i] = f16_to_f32(load<std::uint16_t>(data, i));
}

void convert_to_bf16(Dtype dtype, const std::byte* data, std::int64_t count, Bfloat16* out) noexcept {
  if (dtype == Dtype::bf16)
    std::memcpy(out, data, static_cast<std::size_t>(count) * sizeof(Bfloat16));
  else if (dtype == Dtype::f32)
    for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_from_f32(load<float>(data, i));
  else
    for (std::int64_t i = 0; i < count; ++i) out[i] = bf16_from_f32(f16_to_f32(load<std::uint16_t>(data, i)));
}

std::int64_t find_non_finite(Dtype dtype, const std::byte* data, std::int64_t count) noexcept {
  if (dtype == Dtype::f32) return find_mask<std::uint32_t>(data, count, 0x7f800000u);
  return find_mask<std::uint16_t>(data, count, dtype == Dtype::bf16 ? 0x7f80 : 0x7c00);
}

}  // namespace millrace
