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

std::vector<Finding> verify(const test::TensorFile& tensors, const Progress& progress = {}) {
  const test::TempFolder folder;
  tensors.write(folder.path() / "a.safetensors");
  return verify_checkpoint(Checkpoint::open(folder.path() / "a.safetensors"), progress);
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

}  // namespace
}  // namespace millrace
