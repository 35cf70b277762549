#include "loader/verify.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

Verification verify_all(const test::TensorFile& tensors, const Progress& progress = {}) {
  const test::TempFolder folder;
  tensors.write(folder.path() / "a.safetensors");
  return verify_checkpoint(Checkpoint::open(folder.path() / "a.safetensors"), progress);
}

std::vector<Finding> verify(const test::TensorFile& tensors, const Progress& progress = {}) {
  return verify_all(tensors, progress).findings;
}

auto finding(Finding::Severity severity, const char* tensor, const char* words) {
  return AllOf(Field(&Finding::severity, severity), Field(&Finding::tensor, tensor),
               Field(&Finding::message, AllOf(HasSubstr(tensor), HasSubstr(words))));
}
auto error(const char* tensor, const char* words) {
  return finding(Finding::Severity::error, tensor, words);
}

TEST(Verify, FindsNothingInAGoodCheckpoint) {
  test::TensorFile tensors;
  tensors.f8("a", {2, 2}, {1, 2, 3, 0x7e}).f32("a_scale_inv", {1, 1}, {0.25f}).bf16("model.b", {3}, {1, 2, 3});
  tensors.add<std::uint8_t>("c", Dtype::u8, {1}, {0xff}).f32("d", {0, 4}, {});
  std::uint64_t last = 0;
  EXPECT_THAT(verify(tensors,
                     [&](std::uint64_t done, std::uint64_t total) {
                       EXPECT_EQ(total, 15u);
                       last = done;
                     }),
              IsEmpty());
  EXPECT_EQ(last, 15u);
}

TEST(Verify, NamesEveryDefect) {
  const float inf = std::numeric_limits<float>::infinity();
  test::TensorFile tensors;  // written, and so reported, by element size and then by name
  tensors.f32("a.weight_scale_inv", {1, 1}, {inf}).f32("b.weight_scale_inv", {1, 2}, {1, 1});
  tensors.f32("c", {2, 3}, {0, 0, 0, 0, std::nanf(""), 0}).f32("d.weight_scale_inv", {1, 1}, {2});
  tensors.bf16("e", {3}, {0, -inf, 0}).bf16("e_scale_inv", {1, 1}, {2});
  tensors.add<std::uint16_t>("f", Dtype::f16, {}, {0x7c00});
  tensors.f8("a.weight", {2, 3}, {0, 0, 0, 0, 0, 0xff}).f8("b.weight", {1, 1}, {0}).f8("g.weight", {1, 1}, {0});
  EXPECT_THAT(verify(tensors),
              ElementsAre(error("a.weight_scale_inv", "inf at row 0, column 0"),
                          finding(Finding::Severity::warning, "b.weight_scale_inv", "every scale is 1"),
                          error("c", "nan at row 1, column 1"), error("d.weight_scale_inv", "missing"),
                          error("e", "-inf at element 1"), error("e_scale_inv", "BF16"), error("f", "inf"),
                          error("a.weight", "NaN code at row 1, column 2"), error("b.weight", "[1, 2]"),
                          error("g.weight", "g.weight_scale_inv is missing")));
}

// A weight (rows, 16) as a quantizer makes it: the first row of each block has a code of 448, and with `at_end` the
// last. One grid for each `grid_rows` rows, or none; scales that are no powers of two.
void add_quantized(test::TensorFile& tensors, const std::string& name, std::vector<std::int64_t> shape,
                   std::int64_t grid_rows, std::vector<std::int64_t> scale_shape, float scale = 0.3f,
                   bool at_end = false) {
  std::int64_t rows = 1, scales = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  for (const std::int64_t size : scale_shape) scales *= size;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * 16), 0x40);
  for (std::int64_t row = 0; row < rows; ++row)
    if (grid_rows > 0 &&
        (at_end ? row % grid_rows % 128 == 127 || (row + 1) % grid_rows == 0 : row % grid_rows % 128 == 0))
      codes[static_cast<std::size_t>(row * 16)] = 0x7e;
  tensors.f8(name, shape, codes);
  tensors.f32(name + "_scale_inv", scale_shape, std::vector<float>(static_cast<std::size_t>(scales), scale));
}

auto grid(const char* tensor, std::vector<std::int64_t> fits, std::vector<std::int64_t> passes) {
  return AllOf(Field(&GridReading::tensor, tensor), Field(&GridReading::fits, fits),
               Field(&GridReading::passes, passes));
}

TEST(Verify, TellsHowScaleGridsAreRead) {
  test::TensorFile tensors;
  add_quantized(tensors, "a.k_proj.weight", {768, 16}, 192, {8, 1}, 0.3f, /*at_end=*/true);
  add_quantized(tensors, "b.qkv_proj.weight", {544, 16}, 272, {6, 1});
  add_quantized(tensors, "c.qkv_proj.weight", {704, 16}, 352, {6, 1});  // one grid would fit as well
  add_quantized(tensors, "d.q_proj.weight", {768, 16}, 768, {6, 1});
  const Verification verification = verify_all(tensors);
  EXPECT_THAT(verification.findings, IsEmpty());
  EXPECT_THAT(verification.grids, ElementsAre(grid("a.k_proj.weight", {4, 8}, {4}), grid("b.qkv_proj.weight", {2}, {2}),
                                              grid("c.qkv_proj.weight", {1, 2}, {2})));
}

TEST(Verify, WarnsOfGridsThatCodesDoNotExplain) {
  test::TensorFile tensors;
  add_quantized(tensors, "a.k_proj.weight", {768, 16}, 768, {8, 1});  // its codes say 6 rows of scales
  add_quantized(tensors, "b.up.weight", {144, 16}, 72, {2, 1});       // as if two grids had been concatenated
  add_quantized(tensors, "c.up.weight", {144, 16}, 0, {2, 1});
  add_quantized(tensors, "d.up.weight", {144, 16}, 0, {2, 1});
  add_quantized(tensors, "e.up.weight", {144, 16}, 0, {2, 1}, 1.0f);  // not scaled at all
  const auto warning = [](const char* tensor, const char* words) {
    return finding(Finding::Severity::warning, tensor, words);
  };
  EXPECT_THAT(verify(tensors),
              ElementsAre(warning("e.up.weight_scale_inv", "every scale is 1"), warning("a.k_proj.weight", "a guess"),
                          warning("b.up.weight", "for each 72 rows"),
                          AllOf(Field(&Finding::tensor, ""),
                                Field(&Finding::message, HasSubstr("2 FP8 weights, the first of them c.up.weight")))));
}

// Scales that are powers of two leave the largest code of a block between 224 and 448.
TEST(Verify, PowersOfTwoAsScales) {
  test::TensorFile tensors;
  tensors.f8("a", {1, 2}, {0x77, 1}).f32("a_scale_inv", {1, 1}, {0.25f});
  tensors.f8("b", {1, 2}, {0x76, 1}).f32("b_scale_inv", {1, 1}, {0.25f});
  EXPECT_THAT(verify(tensors), ElementsAre(Field(&Finding::message, HasSubstr("1 FP8 weights, the first of them b"))));
}

TEST(Verify, MergedExperts) {
  test::TensorFile tensors;
  add_quantized(tensors, "experts.gate_up_proj", {3, 384, 16}, 384, {3, 3, 1});
  add_quantized(tensors, "experts.down_proj", {3, 40, 16}, 40, {3, 1, 1});
  EXPECT_THAT(verify(tensors), IsEmpty());
  add_quantized(tensors, "flat.down_proj", {3, 40, 16}, 40, {3, 1});
  EXPECT_THAT(verify(tensors), ElementsAre(error("flat.down_proj", "[3, 1]")));
}

TEST(Verify, Mxfp4) {
  const std::vector<std::uint8_t> codes(6 * 32, 0xff), exponents(12, 127);
  test::TensorFile tensors;
  tensors.add("a.weight", Dtype::u8, {6, 32}, codes).add("a.weight_scale", Dtype::u8, {6, 2}, exponents);
  EXPECT_THAT(verify(tensors), IsEmpty());
  auto nan = exponents;
  nan[5] = 0xff;
  tensors.add("b.weight", Dtype::u8, {6, 32}, codes).add("b.weight_scale", Dtype::u8, {6, 2}, nan);
  tensors.add("c.weight", Dtype::u8, {6, 32}, codes).add("c.weight_scale", Dtype::u8, {4, 3}, exponents);
  tensors.add("d.weight_scale", Dtype::u8, {6, 2}, exponents);
  EXPECT_THAT(verify(tensors), ElementsAre(error("b.weight_scale", "255 at row 2, column 1"),
                                           error("c.weight_scale", "[4, 3]"), error("d.weight_scale", "missing")));
}

}  // namespace
}  // namespace millrace
