// Arrays that users give in safetensors files, whatever number format they were stored in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loader/safetensors.h"

namespace millrace {

// The tensor `name` of `file`. Throws Error(not_found) naming the tensors there are.
const TensorEntry& demand_tensor(const SafetensorsFile& file, std::string_view name);

bool is_floating(const TensorEntry& entry) noexcept;

// Values of an F32, BF16 or F16 tensor. Throws Error(bad_file) for another one.
std::vector<float> read_floats(const SafetensorsFile& file, const TensorEntry& entry);

// Values of an I32, I64, U8 or BOOL tensor. Throws Error(bad_file) for another one and for numbers beyond 32 bits.
std::vector<std::int32_t> read_integers(const SafetensorsFile& file, const TensorEntry& entry);

// The same for numbers that must be 0 or 1.
std::vector<std::uint8_t> read_flags(const SafetensorsFile& file, const TensorEntry& entry);

// The sizes of `entry` without leading ones: [1, 1, 5, 5] is [5, 5]. At least `rank` are left.
std::vector<std::int64_t> core_shape(const TensorEntry& entry, std::size_t rank);

}  // namespace millrace
