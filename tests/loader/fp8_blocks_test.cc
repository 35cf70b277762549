#include "loader/fp8_blocks.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/float8.h"
#include "runtime/float_mode.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using testing::HasSubstr;

std::vector<std::uint8_t> random_codes(std::int64_t count, std::uint64_t seed) {
  test::Random random(seed);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  for (auto& code : codes) code = static_cast<std::uint8_t>(random.below(0x7f) + 128 * random.below(2));
  return codes;
}

std::vector<float> random_scales(std::int64_t count, std::uint64_t seed) {
  test::Random random(seed);
  std::vector<float> scales(static_cast<std::size_t>(count));
  for (float& scale : scales) scale = std::ldexp(random.uniform(1, 2), static_cast<int>(random.below(60)) - 40);
  return scales;
}

std::vector<Bfloat16> dequantize(const std::vector<std::uint8_t>& codes, std::int64_t rows, std::int64_t columns,
                                 const BlockScales& scales) {
  std::vector<Bfloat16> out(codes.size());
  dequantize_rows(codes.data(), columns, scales, 0, rows, out.data());
  return out;
}

TEST(Fp8Blocks, EveryCodeTimesManyScalesBitForBit) {
  std::vector<std::uint8_t> codes(256);
  for (std::size_t i = 0; i < 256; ++i) codes[i] = static_cast<std::uint8_t>(i);
  auto scales = random_scales(2000, 1);
  scales.insert(scales.end(), {0.0f, 1.0f, 0x1p-126f, 0x1.8p-120f, 0x1p120f, 0x1.fffffep127f});
  for (float scale : scales) {
    const auto out =
        dequantize(codes, 256, 1, {.data = std::vector<float>(2, scale).data(), .columns = 1, .segment_rows = 256});
    const FloatMode mode;
    for (std::size_t i = 0; i < 256; ++i)
      ASSERT_EQ(out[i], bf16_from_f32(e4m3_to_f32(codes[i]) * scale)) << i << " " << scale;
  }
}

TEST(Fp8Blocks, PartialBlocks) {
  const auto codes = random_codes(300 * 200, 2);
  const auto scales = random_scales(3 * 2, 3);
  const ScaleGrid grid = resolve_scale_grid("w", 300, 200, std::array<std::int64_t, 2>{3, 2}, 1);
  EXPECT_EQ(grid.segments, 1);
  const auto out = dequantize(codes, 300, 200, {.data = scales.data(), .columns = 2, .segment_rows = 300});
  for (std::size_t row = 0; row < 300; ++row)
    for (std::size_t column = 0; column < 200; ++column) {
      const float scale = scales[row / 128 * 2 + column / 128];
      ASSERT_EQ(out[row * 200 + column], bf16_from_f32(e4m3_to_f32(codes[row * 200 + column]) * scale));
    }
}

// k_proj of the full layers of MiMo-V2-Flash: the grid restarts with every head of 192 rows.
TEST(Fp8Blocks, AGridPerHead) {
  const auto codes = random_codes(768 * 256, 4);
  const auto scales = random_scales(8 * 2, 5);
  const ScaleGrid grid = resolve_scale_grid("w", 768, 256, std::array<std::int64_t, 2>{8, 2}, 4);
  EXPECT_EQ(grid.segments, 4);
  EXPECT_EQ(grid.rows, 8);
  const auto out = dequantize(codes, 768, 256, {.data = scales.data(), .columns = 2, .segment_rows = 192});
  std::int64_t differs_from_one_grid = 0, differs_from_stretching = 0;
  for (std::size_t row = 0; row < 768; ++row)
    for (std::size_t column = 0; column < 256; ++column) {
      const auto value = [&](std::size_t scale_row) {
        return bf16_from_f32(e4m3_to_f32(codes[row * 256 + column]) * scales[scale_row * 2 + column / 128]);
      };
      ASSERT_EQ(out[row * 256 + column], value(2 * (row / 192) + row % 192 / 128)) << row;
      differs_from_one_grid += out[row * 256 + column] != value(row / 128);
      differs_from_stretching += out[row * 256 + column] != value(row / 96);
    }
  EXPECT_GT(differs_from_one_grid, 512 * 200);
  EXPECT_GT(differs_from_stretching, 128 * 200);
}

TEST(Fp8Blocks, AnyRangeOfRowsIsTheSame) {
  const auto codes = random_codes(768 * 130, 6);
  const auto scales = random_scales(8 * 2, 7);
  const BlockScales grid = {.data = scales.data(), .columns = 2, .segment_rows = 192, .skipped_rows = 60};
  const auto whole = dequantize(codes, 768, 130, grid);
  std::vector<Bfloat16> parts(codes.size());
  const std::vector<std::int64_t> cuts = {0, 1, 127, 130, 192, 193, 500, 768};
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
    dequantize_rows(codes.data(), 130, grid, cuts[i], cuts[i + 1], parts.data());
  EXPECT_EQ(parts, whole);
}

TEST(Fp8Blocks, ResolvesGrids) {
  const auto segments = [](std::int64_t rows, std::int64_t scale_rows, std::int64_t hint) {
    return resolve_scale_grid("w", rows, 256, std::array<std::int64_t, 2>{scale_rows, 2}, hint).segments;
  };
  EXPECT_EQ(segments(1536, 12, 8), 1);  // a regular grid wins over one per head
  EXPECT_EQ(segments(384, 4, 2), 2);
  EXPECT_EQ(segments(600, 6, 3), 3);      // only the hint knows of 3 heads
  EXPECT_EQ(segments(768, 8, 4), 4);      // 8 segments of 96 rows would fit as well
  EXPECT_EQ(segments(13568, 108, 1), 4);  // fused q, k, v
  EXPECT_EQ(segments(128, 16, 1), 16);
}

TEST(Fp8Blocks, RefusesGridsThatDoNotFit) {
  const auto message = [](std::vector<std::int64_t> scale_shape) {
    return test::error_of(Errc::bad_file, [&] { resolve_scale_grid("some.weight", 32, 16, scale_shape, 1); });
  };
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{1, 2}, {3, 1}, {1}, {1, 1, 1}, {0, 1}, {}}) {
    EXPECT_THAT(message(shape), HasSubstr("some.weight"));
    EXPECT_THAT(message(shape), HasSubstr(shape_text(shape)));
    EXPECT_THAT(message(shape), HasSubstr("[32, 16]"));
    EXPECT_THAT(message(shape), HasSubstr("[1, 1]"));
  }
}

template <class T>
std::vector<float> converted(Dtype dtype, const std::vector<T>& values, std::int64_t bad = -1) {
  std::vector<float> scales(values.size());
  EXPECT_EQ(convert_scales(dtype, std::as_bytes(std::span(values)), scales.data()), bad);
  return scales;
}

TEST(Fp8Blocks, ScalesOfEveryType) {
  EXPECT_EQ(converted<float>(Dtype::f32, {1.5f, 1e-40f}), (std::vector<float>{1.5f, 1e-40f}));
  EXPECT_EQ(converted<std::uint16_t>(Dtype::bf16, {0x3fc0}), (std::vector<float>{1.5f}));
  EXPECT_EQ(converted<std::uint16_t>(Dtype::f16, {0x3e00, 1}), (std::vector<float>{1.5f, 0x1p-24f}));
  for (Dtype dtype : {Dtype::u8, Dtype::f8_e8m0})
    EXPECT_EQ(converted<std::uint8_t>(dtype, {127, 0, 254, 130}),
              (std::vector<float>{1.0f, 0x1p-127f, 0x1p127f, 8.0f}));
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::u8, Dtype::f8_e8m0})
    EXPECT_TRUE(is_scale_dtype(dtype));
  for (Dtype dtype : {Dtype::f8_e4m3, Dtype::i32, Dtype::f64}) EXPECT_FALSE(is_scale_dtype(dtype));
}

TEST(Fp8Blocks, FindsScalesThatAreNoNumbers) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  converted<float>(Dtype::f32, {1, inf, nan}, 1);
  converted<float>(Dtype::f32, {nan, 1, 1}, 0);
  converted<std::uint16_t>(Dtype::bf16, {0x3fc0, 0xff80}, 1);
  converted<std::uint16_t>(Dtype::f16, {0x3fc0, 0x7c00}, 1);
  converted<std::uint8_t>(Dtype::u8, {254, 255}, 1);
}

TEST(Fp8Blocks, FindsTheFirstNanCode) {
  for (std::size_t place : {0, 1, 15, 4095, 4096, 9999}) {
    auto codes = random_codes(10000, 8);
    EXPECT_EQ(find_nan_code(codes), -1);
    codes[place] = place % 2 ? 0x7f : 0xff;
    codes.back() = 0x7f;
    EXPECT_EQ(find_nan_code(codes), static_cast<std::int64_t>(place));
  }
  EXPECT_EQ(find_nan_code({}), -1);
}

}  // namespace

}  // namespace millrace
