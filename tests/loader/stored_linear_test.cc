#include "loader/stored_linear.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::HasSubstr;

struct Folder : test::TempFolder {
  Folder() {
    const std::vector<float> values(64 * 32, 0.5f);
    test::TensorFile tensors;
    tensors.f8("model.f8", {64, 32}, std::vector<std::uint8_t>(64 * 32, 0x30)).f32("model.f8_scale_inv", {1, 1}, {2});
    tensors.f32("f32", {64, 32}, values).bf16("bf16", {64, 32}, values);
    tensors.add("f16", Dtype::f16, {64, 32}, std::vector<std::uint16_t>(64 * 32, 0x3800));
    tensors.write(file());
  }
  std::filesystem::path file() const { return path() / "a.safetensors"; }
};

TEST(StoredLinear, IsFoundWithoutReadingItsData) {
  const Folder folder;
  const Checkpoint checkpoint = Checkpoint::open(folder.file());
  std::filesystem::resize_file(folder.file(), checkpoint.find("f8").entry->offset / 2);
  const StoredLinear stored = find_linear(checkpoint, "f8", 64, 32, 1);
  EXPECT_EQ(stored.bytes(), 64u * 32);
  EXPECT_EQ(stored.grid.segments, 1);
  EXPECT_TRUE(stored.scale);
  EXPECT_THAT(test::error_of(Errc::io, [&] { load_linear(stored, {}); }), HasSubstr("model.f8"));
}

TEST(StoredLinear, KnowsTheMemoryThatLoadingTakes) {
  const Folder folder;
  const Checkpoint checkpoint = Checkpoint::open(folder.file());
  for (const char* name : {"f8", "f32", "bf16", "f16"})
    for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32})
      for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
        const WeightOptions options = {.numerics = numerics, .format = format};
        const StoredLinear stored = find_linear(checkpoint, name, 64, 32, 1);
        const LoadedLinear loaded = load_linear(stored, options);
        EXPECT_EQ(loaded.memory.bytes(), owned_bytes(stored, options)) << name;
        EXPECT_EQ(loaded.scales.bytes() > 0, loaded.tensor.dtype() == Dtype::f8_e4m3) << name;
        const float value = std::string_view(name) == "f8" ? 1.0f : 0.5f;  // code 0x30 is 0.5, its scale 2
        if (loaded.tensor.dtype() == Dtype::bf16) {
          EXPECT_EQ(loaded.tensor.as<Bfloat16>()[0], bf16_from_f32(value)) << name;
        }
      }
}

}  // namespace
}  // namespace millrace
