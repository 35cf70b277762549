#include "loader/checkpoint.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::SizeIs;

// A hub folder in the making.
struct Folder : test::TempFolder {
  Folder() { write("config.json", "{}"); }
  void shard(const char* name, const std::vector<const char*>& tensors) const {
    test::TensorFile file;
    for (const char* tensor : tensors) file.f32(tensor, {1}, {1});
    file.write(path() / name);
  }
  void index(const std::string& weight_map) const {
    write("model.safetensors.index.json", "{\"weight_map\": " + weight_map + "}");
  }
  std::string refusal(Errc code = Errc::bad_file) const {
    return test::error_of(code, [&] { Checkpoint::open(path()); });
  }
};

TEST(Checkpoint, MissingTensorsAreNamedAsTheFilesSpell) {
  const Folder folder;
  folder.shard("model.safetensors", {"model.layers.0.block_sparse_moe.experts.0.w1.weight"});
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto missing = [&] {
    checkpoint.demand("layers.0.mlp.experts.1.gate_proj.weight", std::vector<std::int64_t>{1});
  };
  EXPECT_THAT(test::error_of(Errc::not_found, missing),
              HasSubstr("model.layers.0.block_sparse_moe.experts.1.w1.weight"));
}

TEST(Checkpoint, WithoutAnIndexEveryModelFileCounts) {
  const Folder folder;
  folder.shard("model-a.safetensors", {"model.a", "layers.0.self_attn.sinks"});
  folder.shard("model_mtp.safetensors", {"model.mtp.b"});
  folder.shard("adapter.safetensors", {"model.a"});
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_THAT(checkpoint.files(), SizeIs(2));
  EXPECT_THAT(checkpoint.tensors(), ElementsAre(Key("a"), Key("layers.0.self_attn.attention_sink_bias"), Key("mtp.b")));
  EXPECT_EQ(checkpoint.find("a").entry->name, "model.a");
  EXPECT_FALSE(checkpoint.find("model.a"));
  EXPECT_THAT(checkpoint.unindexed(), IsEmpty());
  EXPECT_TRUE(checkpoint.has_config());
  EXPECT_EQ(checkpoint.config_text(), "{}");
  EXPECT_EQ(checkpoint.config_sha256(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
}

TEST(Checkpoint, TheIndexDecidesWhichFilesAndTensorsCount) {
  const Folder folder;
  folder.shard("one.safetensors", {"model.a", "model.b", "model.extra"});
  folder.shard("two.safetensors", {"model.a", "model.c"});
  folder.shard("model-stray.safetensors", {"model.a"});
  folder.shard("model_mtp.safetensors", {"model.mtp.d"});
  folder.index(R"({"model.a": "two.safetensors", "b": "one.safetensors", "model.c": "two.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_THAT(checkpoint.files(), SizeIs(3));
  EXPECT_THAT(checkpoint.tensors(), ElementsAre(Key("a"), Key("b"), Key("c"), Key("extra"), Key("mtp.d")));
  EXPECT_THAT(checkpoint.find("a").file->path(), HasSubstr("two.safetensors"));
  EXPECT_THAT(checkpoint.unindexed(), ElementsAre("model.extra"));
}

TEST(Checkpoint, ATensorMayBeThereTwiceIfItIsTheSame) {
  const Folder folder;
  folder.shard("model-1.safetensors", {"model.a", "layers.0.self_attn.sinks"});
  folder.shard("model-2.safetensors", {"a", "layers.0.self_attn.attention_sink_bias"});
  EXPECT_THAT(Checkpoint::open(folder.path()).tensors(), SizeIs(2));
  test::TensorFile other;
  other.f32("a", {1}, {2}).write(folder.path() / "model-2.safetensors");
  const std::string message = folder.refusal();
  for (const char* word : {"model-1.safetensors", "model-2.safetensors", "model.a", "other values"})
    EXPECT_THAT(message, HasSubstr(word));
  test::TensorFile wider;
  wider.f32("a", {1, 1}, {1}).write(folder.path() / "model-2.safetensors");
  EXPECT_THAT(folder.refusal(), HasSubstr("other values"));
}

// As some derivative folders of MiniMax-M2.7 are.
TEST(Checkpoint, TheIndexDecidesAmongFilesThatDisagree) {
  const Folder folder;
  folder.shard("model-1.safetensors", {"model.a", "model.b"});
  test::TensorFile other;
  other.f32("model.a", {1}, {2}).write(folder.path() / "model-2.safetensors");
  folder.index(R"({"model.a": "model-2.safetensors", "model.b": "model-1.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_THAT(checkpoint.find("a").file->path(), HasSubstr("model-2.safetensors"));
  EXPECT_THAT(checkpoint.find("b").file->path(), HasSubstr("model-1.safetensors"));
}

TEST(Checkpoint, RefusesAdapters) {
  for (const char* name :
       {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.default.weight", "layers.0.mlp.experts.gate_and_up_projs.lora_A"}) {
    const Folder folder;
    folder.shard("model.safetensors", {"model.a", name});
    EXPECT_THAT(folder.refusal(Errc::unsupported), AllOf(HasSubstr(name), HasSubstr("LoRA"), HasSubstr("merge")));
    EXPECT_THAT(Checkpoint::open(folder.path() / "model.safetensors").tensors(), SizeIs(2));
  }
  const test::TempFolder adapter;
  adapter.write("adapter_config.json", "{}");
  EXPECT_THAT(test::error_of(Errc::unsupported, [&] { Checkpoint::open(adapter.path()); }), HasSubstr("LoRA adapter"));
}

TEST(Checkpoint, RefusesBadIndexes) {
  const Folder folder;
  folder.shard("model.safetensors", {"model.a"});
  for (const char* name : {"../x.safetensors", "/etc/passwd", "..", ".", "", "sub/x.safetensors", "sub\\\\x"}) {
    folder.index(fmt::format(R"({{"model.a": "{}"}})", name));
    EXPECT_THAT(folder.refusal(), HasSubstr("index")) << name;
  }
  folder.index(R"({"model.a": 3})");
  EXPECT_THAT(folder.refusal(), HasSubstr("model.a"));
  folder.index("[]");
  EXPECT_THAT(folder.refusal(), HasSubstr("weight_map"));
  folder.write("model.safetensors.index.json", "[1]");
  EXPECT_THAT(folder.refusal(), HasSubstr("weight_map"));
  folder.index(R"({"model.a": "model.safetensors", "a": "other.safetensors"})");
  EXPECT_THAT(folder.refusal(), HasSubstr("twice"));
  folder.index(R"({"model.a": "model.safetensors", "a": "model.safetensors"})");
  EXPECT_THAT(Checkpoint::open(folder.path()).tensors(), SizeIs(1));
  folder.index(R"({"model.a": "gone.safetensors"})");
  EXPECT_THAT(folder.refusal(Errc::not_found), HasSubstr("gone.safetensors"));
  folder.index(R"({"model.b": "model.safetensors"})");
  EXPECT_THAT(folder.refusal(), HasSubstr("model.b"));
}

TEST(Checkpoint, RefusesFoldersWithoutAModel) {
  const test::TempFolder folder;
  const auto open = [](const std::filesystem::path& path) {
    return test::error_of(Errc::not_found, [&] { Checkpoint::open(path); });
  };
  EXPECT_THAT(open(folder.path() / "none"), HasSubstr("none"));
  EXPECT_THAT(open(folder.path()), HasSubstr("config.json"));
  folder.write("config.json", "{}");
  EXPECT_THAT(open(folder.path()), HasSubstr("model*.safetensors"));
  EXPECT_THAT(open(folder.path()), HasSubstr(folder.path().string()));
}

TEST(Checkpoint, ASingleFileHasNoConfiguration) {
  const Folder folder;
  folder.shard("any.safetensors", {"model.a"});
  const Checkpoint checkpoint = Checkpoint::open(folder.path() / "any.safetensors");
  EXPECT_FALSE(checkpoint.has_config());
  EXPECT_THAT(checkpoint.tensors(), ElementsAre(Key("a")));
}

TEST(Checkpoint, DemandsExistenceAndShape) {
  const Folder folder;
  folder.shard("model.safetensors", {"model.a"});
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_TRUE(checkpoint.demand("a", std::array<std::int64_t, 1>{1}));
  const std::string missing =
      test::error_of(Errc::not_found, [&] { checkpoint.demand("b", std::array<std::int64_t, 1>{1}); });
  EXPECT_THAT(missing, HasSubstr("model.b"));
  const std::string shape = test::error_of(Errc::bad_file, [&] {
    checkpoint.demand("a", std::array<std::int64_t, 2>{1, 1});
  });
  for (const char* word : {"model.a", "[1]", "[1, 1]"}) EXPECT_THAT(shape, HasSubstr(word));
}

}  // namespace
}  // namespace millrace
