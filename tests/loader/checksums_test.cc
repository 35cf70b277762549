#include "loader/checksums.h"

#include <gmock/gmock.h>

#include "loader/sha256.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::Field;

const auto named = [](const char* name) { return Field(&FileChecksum::name, name); };

TEST(Checksums, OfFilesByNameAndOfTensorsByName) {
  const test::TempFolder folder;
  folder.write("config.json", "{}");
  folder.write("chat_template.jinja", "hi");
  folder.write("notes.md", "not of the model");
  test::TensorFile first, second, stray;
  first.f32("model.z", {1}, {1}).write(folder.path() / "b.safetensors");
  second.f32("model.a", {0}, {}).f32("model.b", {1}, {1}).write(folder.path() / "a.safetensors");
  stray.f32("model.a", {1}, {1}).write(folder.path() / "model-stray.safetensors");
  folder.write(
      "model.safetensors.index.json",
      R"({"weight_map": {"model.z": "b.safetensors", "model.b": "a.safetensors", "model.a": "a.safetensors"}})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  std::uint64_t last = 0;
  const auto files = file_checksums(checkpoint, [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GT(done, last);
    EXPECT_LE(done, total);
    last = done;
  });
  EXPECT_THAT(files, ElementsAre(named("a.safetensors"), named("b.safetensors"), named("chat_template.jinja"),
                                 named("config.json"), named("model.safetensors.index.json")));
  EXPECT_EQ(files[2].sha256, sha256_hex("hi"));
  EXPECT_EQ(files[3].bytes, 2u);
  const auto tensors = tensor_checksums(checkpoint, {});
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "model.a");
  EXPECT_EQ(tensors[0].sha256, sha256_hex(""));
  EXPECT_EQ(tensors[1].sha256, tensors[2].sha256);  // the same values in other files
  EXPECT_EQ(tensors[1].sha256, sha256_hex(std::string_view("\0\0\x80\x3f", 4)));
}

}  // namespace
}  // namespace millrace
