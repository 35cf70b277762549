#include "loader/convert.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "runtime/float16.h"

namespace millrace {
namespace {

// Copies to an odd address: data of files may be unaligned.
template <class T>
std::vector<std::byte> unaligned(const std::vector<T>& values) {
  std::vector<std::byte> bytes(1 + values.size() * sizeof(T));
  std::memcpy(bytes.data() + 1, values.data(), values.size() * sizeof(T));
  return bytes;
}

TEST(Convert, EveryHalfPrecisionPattern) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  const auto data = unaligned(bits);
  std::vector<float> from_bf16(bits.size()), from_f16(bits.size());
  std::vector<Bfloat16> kept(bits.size()), rounded(bits.size());
  convert_to_f32(Dtype::bf16, data.data() + 1, 65536, from_bf16.data());
  convert_to_f32(Dtype::f16, data.data() + 1, 65536, from_f16.data());
  convert_to_bf16(Dtype::bf16, data.data() + 1, 65536, kept.data());
  convert_to_bf16(Dtype::f16, data.data() + 1, 65536, rounded.data());
  for (std::size_t i = 0; i < bits.size(); ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(from_bf16[i]), i << 16);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(from_f16[i]), std::bit_cast<std::uint32_t>(f16_to_f32(bits[i])));
    EXPECT_EQ(kept[i], bits[i]);
    EXPECT_EQ(rounded[i], bf16_from_f32(f16_to_f32(bits[i])));
  }
}

TEST(Convert, F32) {
  const std::vector<float> values = {0.0f, -1.5f, 1.00390625f, 3.0e38f, 1.0e-40f};
  const auto data = unaligned(values);
  std::vector<float> copied(values.size());
  std::vector<Bfloat16> rounded(values.size());
  convert_to_f32(Dtype::f32, data.data() + 1, 5, copied.data());
  convert_to_bf16(Dtype::f32, data.data() + 1, 5, rounded.data());
  EXPECT_EQ(copied, values);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(rounded[i], bf16_from_f32(values[i]));
}

TEST(Convert, FindsTheFirstNonFiniteValue) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (std::int64_t place : {0, 1, 4095, 4096, 9999}) {
    std::vector<float> values(10000, 3.4e38f);
    EXPECT_EQ(find_non_finite(Dtype::f32, unaligned(values).data() + 1, 10000), -1);
    values[static_cast<std::size_t>(place)] = -inf;
    values.back() = std::nanf("");
    EXPECT_EQ(find_non_finite(Dtype::f32, unaligned(values).data() + 1, 10000), place);
    std::vector<std::uint16_t> bits(10000, 0x7bff);
    EXPECT_EQ(find_non_finite(Dtype::bf16, unaligned(bits).data() + 1, 10000), -1);
    EXPECT_EQ(find_non_finite(Dtype::f16, unaligned(bits).data() + 1, 10000), -1);
    bits[static_cast<std::size_t>(place)] = 0xfc00;
    EXPECT_EQ(find_non_finite(Dtype::f16, unaligned(bits).data() + 1, 10000), place);
    bits[static_cast<std::size_t>(place)] = 0x7f80;
    EXPECT_EQ(find_non_finite(Dtype::bf16, unaligned(bits).data() + 1, 10000), place);
  }
}

TEST(Convert, TakesTheThreeFloatTypes) {
  for (Dtype dtype : {Dtype::bf16, Dtype::f16, Dtype::f32}) EXPECT_TRUE(is_float_dtype(dtype));
  for (Dtype dtype : {Dtype::u8, Dtype::f8_e4m3, Dtype::f64, Dtype::i32}) EXPECT_FALSE(is_float_dtype(dtype));
}

}  // namespace
}  // namespace millrace
