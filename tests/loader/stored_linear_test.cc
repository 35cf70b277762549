#include "loader/stored_linear.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::HasSubstr;

class StoredLinearTest : public testing::Test {
 protected:
  Checkpoint open() {
    tensors_.write(folder_.path() / "a.safetensors");
    return Checkpoint::open(folder_.path() / "a.safetensors");
  }
  void add_f8(const std::string& name, std::vector<std::int64_t> shape, std::vector<std::int64_t> scale_shape) {
    std::size_t count = 1, scales = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    for (const std::int64_t size : scale_shape) scales *= static_cast<std::size_t>(size);
    tensors_.f8(name, shape, std::vector<std::uint8_t>(count, 0x30));
    tensors_.f32(name + "_scale_inv", scale_shape, std::vector<float>(scales, 2));
  }
  void add_mxfp4(const std::string& name, std::int64_t rows, std::int64_t columns, Dtype dtype = Dtype::u8) {
    tensors_.add(name, Dtype::u8, {rows, columns / 2},
                 std::vector<std::uint8_t>(static_cast<std::size_t>(rows * columns / 2), 0x21));
    tensors_.add(name + "_scale", dtype, {rows, columns / 32},
                 std::vector<std::uint8_t>(static_cast<std::size_t>(rows * columns / 32), 127));
  }

  test::TempFolder folder_;
  test::TensorFile tensors_;
};

TEST_F(StoredLinearTest, Fp8WithItsScales) {
  add_f8("model.w", {64, 32}, {1, 1});
  const Checkpoint checkpoint = open();
  const StoredLinear stored = find_linear(checkpoint, "w", 64, 32, 1);
  EXPECT_EQ(stored.bytes(), 64u * 32);
  EXPECT_EQ(stored.scale_bytes(), 4u);
  EXPECT_EQ(stored.grid.segments, 1);
  EXPECT_TRUE(stored.scale);
}

TEST_F(StoredLinearTest, Mxfp4WithItsExponents) {
  add_mxfp4("model.u8", 6, 64);
  add_mxfp4("model.e8m0", 6, 64, Dtype::f8_e8m0);
  const Checkpoint checkpoint = open();
  for (const char* name : {"u8", "e8m0"}) {
    const StoredLinear stored = find_linear(checkpoint, name, 6, 64, 1);
    EXPECT_TRUE(stored.is_mxfp4());
    EXPECT_EQ(stored.out, 6);
    EXPECT_EQ(stored.in, 64);
    EXPECT_EQ(stored.bytes(), 6u * 32);
    EXPECT_EQ(stored.scale_bytes(), 6u * 2);
  }
}

TEST_F(StoredLinearTest, RefusesMxfp4ThatDoesNotFit) {
  const std::vector<std::uint8_t> codes(6 * 32), exponents(18);
  tensors_.add("model.bare", Dtype::u8, {6, 32}, codes);
  tensors_.add("model.wide", Dtype::u8, {6, 32}, codes).add("model.wide_scale", Dtype::u8, {6, 3}, exponents);
  tensors_.add("model.half", Dtype::u8, {6, 32}, codes).bf16("model.half_scale", {6, 2}, std::vector<float>(12));
  tensors_.add("model.block", Dtype::u8, {6, 32}, codes).f32("model.block_scale_inv", {1, 1}, {1});
  tensors_.bf16("model.plain", {1, 2}, {1, 2}).add("model.plain_scale", Dtype::u8, {1, 1}, std::vector<char>{1});
  const Checkpoint checkpoint = open();
  const auto refusal = [&](Errc code, const char* name, std::int64_t out = 6, std::int64_t in = 64) {
    return test::error_of(code, [&] { find_linear(checkpoint, name, out, in, 1); });
  };
  EXPECT_THAT(refusal(Errc::bad_file, "bare"), HasSubstr("model.bare_scale is missing"));
  EXPECT_THAT(refusal(Errc::bad_file, "wide"), HasSubstr("[6, 3], expected [6, 2]"));
  EXPECT_THAT(refusal(Errc::unsupported, "half"), HasSubstr("model.half_scale is BF16"));
  EXPECT_THAT(refusal(Errc::bad_file, "block"), HasSubstr("model.block_scale_inv"));
  EXPECT_THAT(refusal(Errc::bad_file, "plain", 1, 2), HasSubstr("model.plain_scale"));
  EXPECT_THAT(refusal(Errc::bad_file, "wide", 6, 128), HasSubstr("[6, 32], expected [6, 64]"));
  EXPECT_THAT(refusal(Errc::unsupported, "wide", 6, 40), HasSubstr("40"));
}

// A weight of chunks: 272 rows each, of which [192, 240) are cut out. They begin 64 rows into the second block.
TEST_F(StoredLinearTest, RowsCutOutOfChunks) {
  add_f8("model.w", {544, 16}, {6, 1});
  const Checkpoint checkpoint = open();
  const StoredLinear whole = find_chunked(checkpoint, "w", 544, 16, 2);
  const StoredLinear part = cut_linear(whole, {.first = 192, .runs = 2, .rows = 48, .stride = 272});
  EXPECT_EQ(part.out, 96);
  EXPECT_EQ(part.bytes(), 96u * 16);
  EXPECT_EQ(part.grid.segments, 2);
  EXPECT_EQ(part.grid.rows, 2);
  EXPECT_EQ(part.grid.skipped_rows, 64);
  EXPECT_EQ(part.grid.first_row, 1);
  EXPECT_EQ(part.grid.stride, 3);
  EXPECT_THAT(test::error_of(Errc::bad_file, [&] { find_chunked(checkpoint, "w", 544, 16, 4); }),
              HasSubstr("[6, 1] do not fit a weight of shape [544, 16] in 4 runs of rows; [8, 1]"));
}

// The grid of a merged weight lies over each matrix, or over its gate rows and its up rows apart.
TEST_F(StoredLinearTest, StackedMatrices) {
  add_f8("model.whole", {3, 2 * 192, 16}, {3, 3, 1});
  add_f8("model.apart", {3, 2 * 192, 16}, {3, 4, 1});
  add_f8("model.small", {3, 2 * 40, 16}, {3, 1, 1});
  add_f8("model.either", {3, 2 * 72, 16}, {3, 2, 1});
  add_f8("model.neither", {3, 2 * 192, 16}, {3, 5, 1});
  add_f8("model.flat", {3, 2 * 192, 16}, {9, 1});
  const Checkpoint checkpoint = open();
  const auto up_of_1 = [&](const char* name) {
    const StoredLinear whole = find_stacked(checkpoint, name, 3, 384, 16, 2);
    return cut_linear(whole, {.first = 384 + 192, .runs = 1, .rows = 192, .stride = 0}).grid;
  };
  EXPECT_EQ(up_of_1("whole").first_row, 3 + 1);
  EXPECT_EQ(up_of_1("whole").skipped_rows, 64);
  EXPECT_EQ(up_of_1("apart").first_row, 4 + 2);
  EXPECT_EQ(up_of_1("apart").skipped_rows, 0);
  EXPECT_EQ(find_stacked(checkpoint, "small", 3, 80, 16, 2).grid.segments, 3);
  const auto refusal = [&](Errc code, const char* name, std::int64_t out) {
    return test::error_of(code, [&] { find_stacked(checkpoint, name, 3, out, 16, 2); });
  };
  EXPECT_THAT(refusal(Errc::unsupported, "either", 144), HasSubstr("[3, 2, 1] may belong to blocks over each matrix"));
  EXPECT_THAT(refusal(Errc::bad_file, "neither", 384), HasSubstr("[3, 5, 1] do not fit"));
  EXPECT_THAT(refusal(Errc::bad_file, "flat", 384), HasSubstr("[9, 1] do not fit"));
}

}  // namespace
}  // namespace millrace
