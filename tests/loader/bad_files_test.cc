// The broken files of tests/golden/bad: each must give an error that mentions what is wrong (bad.json lists the words).
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loader/expert_store.h"
#include "loader/safetensors.h"
#include "loader/weight_store.h"
#include "runtime/error.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

const fs::path folder = fs::path(test::golden_dir()) / "bad";

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// What the model in good/ demands: a full layer with a dense MLP, then a sliding layer with experts.
void demand_everything(const Checkpoint& checkpoint, WeightOptions options) {
  WeightStore store(checkpoint, std::move(options));
  store.embedding("embed_tokens.weight", 24, 16);
  for (int layer : {0, 1}) {
    const std::string name = fmt::format("layers.{}.", layer);
    const std::int64_t kv_heads = layer == 0 ? 1 : 2;
    store.vector(name + "input_layernorm.weight", 16);
    store.linear(name + "self_attn.q_proj.weight", 32, 16);
    store.linear(name + "self_attn.k_proj.weight", kv_heads * 8, 16, kv_heads);
    store.linear(name + "self_attn.v_proj.weight", kv_heads * 4, 16);
    store.linear(name + "self_attn.o_proj.weight", 16, 16);
    store.vector(name + "post_attention_layernorm.weight", 16);
  }
  store.linear("layers.0.mlp.gate_proj.weight", 16, 16);
  store.linear("layers.0.mlp.up_proj.weight", 16, 16);
  store.linear("layers.0.mlp.down_proj.weight", 16, 16);
  store.vector("layers.1.self_attn.attention_sink_bias", 4);
  store.router("layers.1.mlp.gate.weight", 4, 16);
  store.vector("layers.1.mlp.gate.e_score_correction_bias", 4, true);
  ExpertStore experts(store, {{1, "layers.1.mlp.experts", 4, 8, 16}});
  experts.preload({});
  store.vector("norm.weight", 16);
  store.linear("lm_head.weight", 24, 16);
  const std::vector<std::string> unused = store.unused();
  require(unused.empty(), Errc::bad_file, "unused: {}", fmt::join(unused, ", "));
}

TEST(BadFiles, TheUnbrokenFolderLoads) {
  const Checkpoint checkpoint = Checkpoint::open(folder / "good");
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32})
    for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8})
      demand_everything(checkpoint, {.numerics = numerics, .format = format});
}

TEST(BadFiles, EachGivesAnErrorThatMentionsWhatIsWrong) {
  const auto cases = nlohmann::json::parse(std::ifstream(folder / "bad.json"));
  int checked = 0;
  for (const auto& test : cases) {
    const std::string path = test["path"], stage = test["stage"];
    if (stage != "safetensors" && stage != "load") continue;
    for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8}) {
      std::string message;
      try {
        if (stage == "safetensors")
          SafetensorsFile(folder / path);
        else
          demand_everything(Checkpoint::open(folder / path), {.format = format});
      } catch (const Error& error) {
        message = lower(error.what());
      }
      EXPECT_NE(message, "") << path << ": no error";
      for (std::string word : test["must_mention"]) {
        if (word == "tie_word_embeddings") continue;  // that another tensor could serve is for the model to say
        EXPECT_THAT(message, testing::HasSubstr(lower(word))) << path;
      }
    }
    ++checked;
  }
  EXPECT_EQ(checked, 36);
}

}  // namespace
}  // namespace millrace
