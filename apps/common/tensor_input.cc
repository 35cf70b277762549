#include "apps/common/tensor_input.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/float16.h"

namespace millrace {
namespace {

template <class Stored, class Value, class Convert>
std::vector<Value> converted(std::span<const std::byte> bytes, Convert convert) {
  std::vector<Value> values(bytes.size() / sizeof(Stored));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = convert(stored);
  }
  return values;
}

[[noreturn]] void fail_dtype(const SafetensorsFile& file, const TensorEntry& entry, const char* expected) {
  fail(Errc::bad_file, "{}: {} is {}, expected {}", file.path(), entry.name, name_of(entry.dtype), expected);
}

}  // namespace

const TensorEntry& demand_tensor(const SafetensorsFile& file, std::string_view name) {
  const TensorEntry* entry = file.find(name);
  if (entry != nullptr) return *entry;
  std::vector<std::string_view> names;
  for (const TensorEntry& other : file.entries())
    if (names.size() < 6) names.push_back(other.name);
  fail(Errc::not_found, "{}: no tensor '{}'; it holds {}{}", file.path(), name, fmt::join(names, ", "),
       names.size() < file.entries().size() ? ", ..." : "");
}

bool is_floating(const TensorEntry& entry) noexcept {
  return entry.dtype == Dtype::f32 || entry.dtype == Dtype::bf16 || entry.dtype == Dtype::f16;
}

std::vector<float> read_floats(const SafetensorsFile& file, const TensorEntry& entry) {
  if (!is_floating(entry)) fail_dtype(file, entry, "F32, BF16 or F16");
  const auto bytes = file.read(entry);
  if (entry.dtype == Dtype::f32) return converted<float, float>(bytes, [](float value) { return value; });
  if (entry.dtype == Dtype::bf16) return converted<Bfloat16, float>(bytes, bf16_to_f32);
  return converted<std::uint16_t, float>(bytes, f16_to_f32);
}

std::vector<std::int32_t> read_integers(const SafetensorsFile& file, const TensorEntry& entry) {
  const auto checked = [&](std::int64_t value) {
    require(value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max(),
            Errc::bad_file, "{}: {} holds {}, expected 32 bits", file.path(), entry.name, value);
    return static_cast<std::int32_t>(value);
  };
  const auto bytes = file.read(entry);
  if (entry.dtype == Dtype::i32) return converted<std::int32_t, std::int32_t>(bytes, checked);
  if (entry.dtype == Dtype::i64) return converted<std::int64_t, std::int32_t>(bytes, checked);
  if (entry.dtype == Dtype::u8 || entry.dtype == Dtype::boolean)
    return converted<std::uint8_t, std::int32_t>(bytes, checked);
  fail_dtype(file, entry, "I32, I64, U8 or BOOL");
}

std::vector<std::uint8_t> read_flags(const SafetensorsFile& file, const TensorEntry& entry) {
  const std::vector<std::int32_t> values = read_integers(file, entry);
  std::vector<std::uint8_t> flags(values.size());
  for (std::size_t i = 0; i < flags.size(); ++i) {
    require(values[i] == 0 || values[i] == 1, Errc::bad_file, "{}: entry {} of {} is {}, expected 0 or 1", file.path(),
            i, entry.name, values[i]);
    flags[i] = static_cast<std::uint8_t>(values[i]);
  }
  return flags;
}

std::vector<std::int64_t> core_shape(const TensorEntry& entry, std::size_t rank) {
  auto first = entry.shape.begin();
  while (static_cast<std::size_t>(entry.shape.end() - first) > rank && *first == 1) ++first;
  return {first, entry.shape.end()};
}

}  // namespace millrace
