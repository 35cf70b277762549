// The same model in other files: what a folder may look like changes no bit of the result.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <nlohmann/json.hpp>

#include "loader/checkpoint.h"
#include "loader/safetensors_writer.h"
#include "model/engine.h"
#include "model/session.h"
#include "runtime/error.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

struct Change {
  // The name of a tensor in the new folder, which may be the same; empty to leave it out.
  std::function<std::string(const std::string& name)> rename = [](const std::string& name) { return name; };
  // Which of two shards holds it.
  std::function<int(std::size_t index)> shard = [](std::size_t) { return 0; };
  nlohmann::json config = nlohmann::json::object();  // merged into config.json
  std::vector<TensorToWrite> more = {};
};

// The golden `name`, written anew with changes.
class Folder : public test::TempFolder {
 public:
  Folder(const std::string& name, const Change& change) {
    const Checkpoint source = Checkpoint::open(test::golden("models/" + name));
    std::array<std::vector<TensorToWrite>, 2> shards;
    shards[0] = change.more;
    std::size_t index = 0;
    for (const auto& [canonical, stored] : source.tensors()) {
      const std::string renamed = change.rename(stored.entry->name);
      if (renamed.empty()) continue;
      const std::span<const std::byte> data = stored.file->read(*stored.entry);
      TensorToWrite tensor;
      tensor.name = renamed;
      tensor.dtype = stored.entry->dtype;
      tensor.shape = stored.entry->shape;
      tensor.data = data;
      shards.at(static_cast<std::size_t>(change.shard(index++))).push_back(tensor);
    }
    write_safetensors(path() / "model-1.safetensors", {}, shards[0]);
    if (!shards[1].empty()) write_safetensors(path() / "model-2.safetensors", {}, shards[1]);
    nlohmann::json config = nlohmann::json::parse(source.config_text());
    config.update(change.config);
    write("config.json", config.dump());
  }
};

std::vector<float> logits(const std::filesystem::path& folder) {
  const auto engine = Engine::open(folder, {.threads = 1});
  Session session(*engine);
  const std::vector<std::int32_t> ids = {5, 17, 3, 99, 42, 7, 7, 120, 64, 31};
  const auto all = session.forward(ids, {.logits_rows = std::ssize(ids)});
  return {all.begin(), all.end()};
}

void expect_same(const std::string& name, const Change& change, const char* what) {
  const Folder folder(name, change);
  test::expect_same_bits(logits(folder.path()), logits(test::golden("models/" + name)), what);
}

TEST(Layouts, NamesWithoutThePrefix) {
  for (const char* name : {"mimo-fused-qkv", "mimo-mxfp4", "mimo-segmented"})
    expect_same(name, {.rename = [](const std::string& n) { return n.starts_with("model.") ? n.substr(6) : n; }}, name);
}

TEST(Layouts, ExpertsAndScalesInAnyShard) {
  for (const char* name : {"mimo-fused-qkv", "mimo-mxfp4"})
    expect_same(name, {.shard = [](std::size_t index) { return static_cast<int>(index * 7 / 3 % 2); }}, name);
}

TEST(Layouts, TowersAreSkipped) {
  const std::vector<std::byte> odd(40, std::byte{0xff});  // NaN and codes of a type that no weight may have
  Change change;
  for (const char* name : {"visual.blocks.0.norm1.weight", "audio_encoder.layers.0.fc1.weight",
                           "speech_embeddings.0.weight", "visual.layers.0.self_attn.qkv_proj.weight"}) {
    TensorToWrite& tensor = change.more.emplace_back();
    tensor.name = name;
    tensor.dtype = Dtype::f64;
    tensor.shape = {5};
    tensor.data = odd;
  }
  change.config = {{"vision_config", {{"depth", "deep"}}}, {"audio_config", nullptr}};
  expect_same("mimo-fused-qkv", change, "towers");
  const Folder folder("mimo-fused-qkv", change);
  EXPECT_EQ(Engine::open(folder.path(), {.headers_only = true})->unused_tensors().size() -
                Engine::open(test::golden("models/mimo-fused-qkv"), {.headers_only = true})->unused_tensors().size(),
            change.more.size());
}

TEST(Layouts, TiedEmbeddingsOnlyWhereTheFilesHaveNoHead) {
  const auto no_head = [](const std::string& name) { return name == "lm_head.weight" ? "" : name; };
  const Folder untied("mimo-segmented", {.rename = no_head});
  EXPECT_NE(test::error_of(Errc::not_found, [&] { Engine::open(untied.path()); }).find("tie_word_embeddings"),
            std::string::npos);
  const Folder tied("mimo-segmented", {.rename = no_head, .config = {{"tie_word_embeddings", true}}});
  // As if the head were a copy of the table.
  const Checkpoint source = Checkpoint::open(test::golden("models/mimo-segmented"));
  const StoredTensor table = source.find("embed_tokens.weight");
  Change with_copy = {.rename = no_head};
  TensorToWrite& head = with_copy.more.emplace_back();
  head.name = "lm_head.weight";
  head.dtype = table.entry->dtype;
  head.shape = table.entry->shape;
  head.data = table.file->read(*table.entry);
  test::expect_same_bits(logits(tied.path()), logits(Folder("mimo-segmented", with_copy).path()), "tied");
  // A head in the files is used whatever the configuration says.
  expect_same("mimo-segmented", {.config = {{"tie_word_embeddings", true}}}, "own head");
}

// "gate" in a list of modules that are not quantized does not mean gate_proj: the files decide.
TEST(Layouts, ListsOfWhatIsNotQuantizedAreNotRead) {
  nlohmann::json quantization = {{"quant_method", "fp8"},
                                 {"fmt", "e4m3"},
                                 {"activation_scheme", "dynamic"},
                                 {"weight_block_size", {128, 128}},
                                 {"modules_to_not_convert", {"gate", "down", "lm_head"}},
                                 {"ignored_layers", {"model.layers.0.mlp.gate_proj"}}};
  expect_same("mimo-segmented", {.config = {{"quantization_config", quantization}}}, "lists");
}

// Both forms of q, k and v in one folder contradict each other, even where one was left behind.
TEST(Layouts, RefusesFusedBesideSplit) {
  const std::vector<std::byte> data(2 * 4);
  Change change;
  TensorToWrite& tensor = change.more.emplace_back();
  tensor.name = "model.layers.1.self_attn.k_proj.weight";
  tensor.dtype = Dtype::bf16;
  tensor.shape = {2, 2};
  tensor.data = data;
  const Folder folder("mimo-fused-qkv", change);
  EXPECT_NE(test::error_of(Errc::bad_file, [&] { Engine::open(folder.path()); }).find("k_proj.weight are there"),
            std::string::npos);
}

}  // namespace
}  // namespace millrace
