#include "runtime/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace millrace {
namespace {

TEST(Dtype, NamesAndSizesFollowSafetensors) {
  const std::pair<const char*, std::int64_t> table[] = {
      {"BOOL", 1}, {"U8", 1},      {"I8", 1},      {"U16", 2},     {"I16", 2}, {"U32", 4},  {"I32", 4}, {"U64", 8},
      {"I64", 8},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F64", 8}};
  std::set<Dtype> seen;
  for (const auto& [name, bytes] : table) {
    const auto dtype = dtype_named(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(name_of(*dtype), name);
    EXPECT_EQ(size_of(*dtype), bytes) << name;
    seen.insert(*dtype);
  }
  EXPECT_EQ(seen.size(), std::size(table));
}

TEST(Dtype, OtherNamesAreUnknown) {
  for (const char* name : {"", "bf16", "BF16 ", "F8", "F8_E4M3FN", "F4"}) EXPECT_FALSE(dtype_named(name)) << name;
}

}  // namespace
}  // namespace millrace
