// Element types of tensors in files and in memory, with the names the safetensors format gives them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace millrace {

enum class Dtype : std::uint8_t {
  boolean,
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  u64,
  i64,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f16,
  bf16,
  f32,
  f64,
};

// Bytes of one element.
std::int64_t size_of(Dtype dtype) noexcept;

// "F8_E4M3", "BF16", ... as written in a safetensors header.
std::string_view name_of(Dtype dtype) noexcept;
std::optional<Dtype> dtype_named(std::string_view name) noexcept;

}  // namespace millrace
