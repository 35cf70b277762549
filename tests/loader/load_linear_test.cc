#include "loader/load_linear.h"

#include <gmock/gmock.h>

#include <cstring>

#include "runtime/float8.h"
#include "tests/support/errors.h"
#include "tests/support/random.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

using testing::HasSubstr;

struct Folder : test::TempFolder {
  test::Mxfp4Weight mxfp4;

  Folder() : mxfp4(random(), 64, 32) {
    const std::vector<float> values(64 * 32, 0.5f);
    test::TensorFile tensors;
    tensors.f8("model.f8", {64, 32}, std::vector<std::uint8_t>(64 * 32, 0x30)).f32("model.f8_scale_inv", {1, 1}, {2});
    tensors.f32("f32", {64, 32}, values).bf16("bf16", {64, 32}, values);
    tensors.add("f16", Dtype::f16, {64, 32}, std::vector<std::uint16_t>(64 * 32, 0x3800));
    tensors.add("mxfp4", Dtype::u8, {64, 16}, mxfp4.codes()).add("mxfp4_scale", Dtype::u8, {64, 1}, mxfp4.exponents());
    tensors.write(file());
  }
  std::filesystem::path file() const { return path() / "a.safetensors"; }

 private:
  static test::Random& random() {
    static test::Random generator(1);
    return generator;
  }
};

TEST(LoadLinear, IsWhatReadsTheData) {
  const Folder folder;
  const Checkpoint checkpoint = Checkpoint::open(folder.file());
  std::filesystem::resize_file(folder.file(), checkpoint.find("f8").entry->offset / 2);
  const StoredLinear stored = find_linear(checkpoint, "f8", 64, 32, 1);
  EXPECT_THAT(test::error_of(Errc::io, [&] { load_linear(stored, {}); }), HasSubstr("model.f8"));
}

TEST(LoadLinear, KnowsTheMemoryItTakes) {
  const Folder folder;
  const Checkpoint checkpoint = Checkpoint::open(folder.file());
  for (const char* name : {"f8", "f32", "bf16", "f16", "mxfp4"})
    for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32, Numerics::w8a8, Numerics::w8a8_bf16})
      for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8})
        for (bool resident : {false, true}) {
          const WeightOptions options = {.numerics = numerics, .format = format, .resident = resident};
          const StoredLinear stored = find_linear(checkpoint, name, 64, 32, 1);
          const LoadedLinear loaded = load_linear(stored, options);
          EXPECT_EQ(loaded.memory.bytes() + loaded.scales.bytes(), owned_bytes(stored, options)) << name;
          const Dtype dtype = loaded.tensor.dtype();
          EXPECT_EQ(loaded.scales.bytes() > 0, dtype == Dtype::f8_e4m3 || dtype == Dtype::u8) << name;
          EXPECT_EQ(plan_linear(stored, options).dtype(), dtype) << name;
          // Code 0x30 is 0.5, its scale 2.
          const float value = std::string_view(name) == "f8"      ? 1.0f
                              : std::string_view(name) == "mxfp4" ? folder.mxfp4.values()[0]
                                                                  : 0.5f;
          if (dtype == Dtype::bf16) {
            EXPECT_EQ(loaded.tensor.as<Bfloat16>()[0], bf16_from_f32(value)) << name;
          }
        }
}

TEST(LoadLinear, ResidentWeightsMayBePlacedByTheCaller) {
  const Folder folder;
  const Checkpoint checkpoint = Checkpoint::open(folder.file());
  for (const char* name : {"f8", "f32", "bf16", "f16", "mxfp4"})
    for (Numerics numerics : {Numerics::fast, Numerics::f32})
      for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
        const WeightOptions options = {.numerics = numerics, .format = format, .resident = true};
        const StoredLinear stored = find_linear(checkpoint, name, 64, 32, 1);
        const LoadedLinear owned = load_linear(stored, options);
        const std::uint64_t bytes = placed_bytes(stored, options);
        EXPECT_EQ(bytes, Buffer::aligned(owned.memory.bytes()) + Buffer::aligned(owned.scales.bytes())) << name;
        Buffer memory(bytes + 64, "test");
        const Tensor placed = load_linear(stored, options, mapped_bytes(), memory.data());
        EXPECT_EQ(placed.data(), memory.data()) << name;
        EXPECT_EQ(placed.dtype(), owned.tensor.dtype()) << name;
        EXPECT_EQ(std::memcmp(memory.data(), owned.memory.data(), owned.memory.bytes()), 0) << name;
        EXPECT_EQ(static_cast<bool>(placed.scales()), static_cast<bool>(owned.tensor.scales())) << name;
        if (placed.scales()) {
          EXPECT_EQ(placed.scales().row(63)[0], owned.tensor.scales().row(63)[0]) << name;
        }
        for (std::uint64_t i = bytes; i < memory.bytes(); ++i) EXPECT_EQ(memory.data()[i], std::byte{}) << name;
      }
}

TEST(LoadLinear, Mxfp4PackedAndDequantized) {
  const Folder folder;
  const Checkpoint checkpoint = Checkpoint::open(folder.file());
  const StoredLinear stored = find_linear(checkpoint, "mxfp4", 64, 32, 1);
  const LoadedLinear packed = load_linear(stored, {.format = WeightFormat::fp8});
  EXPECT_EQ(std::memcmp(packed.tensor.data(), folder.mxfp4.codes().data(), 64 * 16), 0);
  EXPECT_EQ(packed.tensor.exponents()[63], folder.mxfp4.tensor().exponents()[63]);
  const LoadedLinear bf16 = load_linear(stored, {.format = WeightFormat::bf16});
  const auto want = test::to_bf16(folder.mxfp4.values());
  EXPECT_EQ(std::memcmp(bf16.tensor.data(), want.data(), want.size() * 2), 0);
}

TEST(LoadLinear, ExponentsThatAreNoNumbers) {
  for (const int bad : {253, 255}) {
    const test::TempFolder folder;
    std::vector<std::uint8_t> exponents(12, 127);
    exponents[7] = static_cast<std::uint8_t>(bad);
    test::TensorFile tensors;
    tensors.add("w", Dtype::u8, {6, 32}, std::vector<std::uint8_t>(6 * 32));
    tensors.add("w_scale", Dtype::u8, {6, 2}, exponents).write(folder.path() / "a.safetensors");
    const Checkpoint checkpoint = Checkpoint::open(folder.path() / "a.safetensors");
    for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8})
      EXPECT_THAT(test::error_of(Errc::bad_file,
                                 [&] { load_linear(find_linear(checkpoint, "w", 6, 64, 1), {.format = format}); }),
                  HasSubstr(fmt::format("w_scale: the exponent at row 3, column 1 is {}", bad)));
  }
}

// Rows of chunks and of stacked matrices, against the whole weight's values.
TEST(LoadLinear, CutRowsHaveTheScalesOfTheirBlocks) {
  test::Random random(2);
  const test::TempFolder folder;
  test::Fp8Weight chunked(random, 544, 130, 272);  // two chunks of 272 rows, three rows of scales each
  test::TensorFile tensors;
  tensors.f8("w", {544, 130}, chunked.codes()).f32("w_scale_inv", {6, 2}, chunked.scales());
  tensors.f8("s", {2, 272, 130}, chunked.codes()).f32("s_scale_inv", {2, 3, 2}, chunked.scales());
  tensors.write(folder.path() / "a.safetensors");
  const Checkpoint checkpoint = Checkpoint::open(folder.path() / "a.safetensors");
  const auto values = test::to_bf16(chunked.values());
  const auto check = [&](const StoredLinear& part) {
    std::vector<Bfloat16> want;
    for (std::int64_t run = 0; run < part.rows.runs; ++run) {
      const auto begin = values.begin() + (part.rows.first + run * part.rows.stride) * 130;
      want.insert(want.end(), begin, begin + part.rows.rows * 130);
    }
    const LoadedLinear bf16 = load_linear(part, {.format = WeightFormat::bf16});
    EXPECT_EQ(std::memcmp(bf16.tensor.data(), want.data(), want.size() * 2), 0) << part.rows.first;
    const LoadedLinear fp8 = load_linear(part, {.format = WeightFormat::fp8});
    for (std::int64_t row = 0; row < part.out; ++row)
      for (std::int64_t column = 0; column < 130; ++column) {
        const std::uint8_t code = fp8.tensor.as<std::uint8_t>()[row * 130 + column];
        ASSERT_EQ(bf16_from_f32(e4m3_to_f32(code) * fp8.tensor.scales().row(row)[column / 128]),
                  want[static_cast<std::size_t>(row * 130 + column)])
            << part.rows.first << " row " << row;
      }
  };
  const StoredLinear whole = find_chunked(checkpoint, "w", 544, 130, 2);
  for (const auto& [first, rows] : {std::pair(0, 192), {192, 48}, {240, 32}, {127, 1}, {0, 272}})
    check(cut_linear(whole, {.first = first, .runs = 2, .rows = rows, .stride = 272}));
  const StoredLinear stacked = find_stacked(checkpoint, "s", 2, 272, 130, 2);
  for (const std::int64_t first : {0, 136, 272, 408})
    check(cut_linear(stacked, {.first = first, .runs = 1, .rows = 136, .stride = 0}));
}

}  // namespace
}  // namespace millrace
