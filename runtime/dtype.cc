#include "runtime/dtype.h"

#include <array>

namespace millrace {
namespace {

struct Row {
  Dtype dtype;
  std::string_view name;
  std::int64_t bytes;
};

constexpr std::array<Row, 16> table = {{
    {Dtype::boolean, "BOOL", 1},
    {Dtype::u8, "U8", 1},
    {Dtype::i8, "I8", 1},
    {Dtype::u16, "U16", 2},
    {Dtype::i16, "I16", 2},
    {Dtype::u32, "U32", 4},
    {Dtype::i32, "I32", 4},
    {Dtype::u64, "U64", 8},
    {Dtype::i64, "I64", 8},
    {Dtype::f8_e4m3, "F8_E4M3", 1},
    {Dtype::f8_e5m2, "F8_E5M2", 1},
    {Dtype::f8_e8m0, "F8_E8M0", 1},
    {Dtype::f16, "F16", 2},
    {Dtype::bf16, "BF16", 2},
    {Dtype::f32, "F32", 4},
    {Dtype::f64, "F64", 8},
}};

const Row& row_of(Dtype dtype) noexcept {
  return table[static_cast<std::size_t>(dtype)];
}

}  // namespace

std::int64_t size_of(Dtype dtype) noexcept {
  return row_of(dtype).bytes;
}

std::string_view name_of(Dtype dtype) noexcept {
  return row_of(dtype).name;
}

std::optional<Dtype> dtype_named(std::string_view name) noexcept {
  for (const Row& row : table)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

}  // namespace millrace
