#include "model/mimo_v2_flash_config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "tests/model/config_text.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig parse(const std::string& text) {
  return parse_mimo_v2_flash_config(text, "config.json");
}

std::string describe(const LayerSpec& layer) {
  return fmt::format("{} heads {}/{} dims {}/{} rotary {} theta {} window {} {} {} {}",
                     layer.attention == AttentionKind::full ? "full" : "sliding", layer.heads, layer.kv_heads,
                     layer.qk_dim, layer.v_dim, layer.rope.rotary_dim, layer.rope.theta, layer.window,
                     layer.sinks ? "sinks" : "bare", layer.moe ? "moe" : "dense", layer.width);
}

std::vector<std::string> describe_layers(const ModelConfig& model) {
  std::vector<std::string> lines;
  for (const LayerSpec& layer : model.layers) lines.push_back(describe(layer));
  return lines;
}

TEST(MimoConfig, PublishedSpelling) {
  const ModelConfig model = parse(mimo_config("basic"));
  EXPECT_EQ(model.family, "mimo_v2_flash");
  EXPECT_EQ(model.architecture, "MiMoV2FlashForCausalLM");
  EXPECT_EQ(model.model_type, "mimo_v2_flash");
  EXPECT_EQ(model.vocab, 200);
  EXPECT_EQ(model.hidden, 160);
  EXPECT_EQ(model.max_positions, 262144);
  EXPECT_EQ(model.epsilon, 1e-5f);
  EXPECT_EQ(model.value_scale, 0.707f);
  EXPECT_FALSE(model.qkv_bias);
  EXPECT_FALSE(model.tied_embeddings);
  EXPECT_THAT(model.eos_ids, ElementsAre(3));
  EXPECT_THAT(describe_layers(model),
              ElementsAre("full heads 8/2 dims 24/16 rotary 8 theta 5000000 window 0 bare dense 144",
                          "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 9 sinks moe 40",
                          "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 9 sinks moe 40",
                          "full heads 8/2 dims 24/16 rotary 8 theta 5000000 window 0 bare moe 40"));
  EXPECT_EQ(describe(model.mtp_layer), "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 9 sinks dense 144");
  EXPECT_EQ(model.router.experts, 8);
  EXPECT_EQ(model.router.top_k, 3);
  EXPECT_EQ(model.router.groups, 1);
  EXPECT_EQ(model.router.top_groups, 1);
  EXPECT_TRUE(model.router.normalize);
  EXPECT_EQ(model.router.norm_floor, 1e-20f);
  EXPECT_EQ(model.router.scale, 1.0f);
}

TEST(MimoConfig, SlidingWindowAloneCountsTheQuery) {
  EXPECT_THAT(describe_layers(parse(mimo_config("bf16"))),
              ElementsAre("full heads 8/2 dims 24/16 rotary 8 theta 5000000 window 0 bare dense 96",
                          "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 8 sinks moe 32",
                          "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 8 sinks moe 32"));
}

TEST(MimoConfig, KindsOfLayersMayDifferInEverySize) {
  const ModelConfig model = parse(mimo_config("odd"));
  EXPECT_EQ(model.vocab, 233);
  EXPECT_EQ(model.hidden, 168);
  EXPECT_THAT(describe_layers(model),
              ElementsAre("full heads 6/3 dims 48/40 rotary 16 theta 5000000 window 0 bare dense 136",
                          "sliding heads 10/5 dims 36/24 rotary 12 theta 10000 window 9 sinks moe 72"));
}

TEST(MimoConfig, PublishedHeadSize) {
  EXPECT_THAT(describe_layers(parse(mimo_config("segmented"))),
              ElementsAre("full heads 4/2 dims 192/24 rotary 64 theta 5000000 window 0 bare dense 144",
                          "sliding heads 4/4 dims 192/24 rotary 64 theta 10000 window 9 sinks moe 40"));
}

TEST(MimoConfig, TransformersSpelling) {
  const ModelConfig model = parse(mimo_config("t5"));
  EXPECT_EQ(model.epsilon, 1e-5f);
  EXPECT_EQ(model.value_scale, 0.707f);
  EXPECT_EQ(model.router.experts, 6);
  EXPECT_THAT(describe_layers(model),
              ElementsAre("full heads 8/2 dims 24/16 rotary 8 theta 5000000 window 0 bare dense 96",
                          "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 9 sinks moe 32",
                          "full heads 8/2 dims 24/16 rotary 8 theta 5000000 window 0 bare moe 32"));
}

TEST(MimoConfig, Groups) {
  const ModelConfig model = parse(mimo_config("groups"));
  EXPECT_TRUE(model.qkv_bias);
  EXPECT_EQ(model.router.experts, 16);
  EXPECT_EQ(model.router.top_k, 4);
  EXPECT_EQ(model.router.groups, 4);
  EXPECT_EQ(model.router.top_groups, 2);
  EXPECT_FALSE(model.router.normalize);
  EXPECT_EQ(model.router.scale, 2.5f);
}

TEST(MimoConfig, ShardedAndBf16Gate) {
  EXPECT_THAT(describe_layers(parse(mimo_config("sharded"))),
              ElementsAre("full heads 8/2 dims 24/16 rotary 8 theta 5000000 window 0 bare dense 144",
                          "sliding heads 8/4 dims 24/16 rotary 8 theta 10000 window 9 sinks moe 40"));
  const ModelConfig model = parse(mimo_config("gate-bf16"));
  EXPECT_EQ(model.epsilon, 1e-6f);
  EXPECT_EQ(model.value_scale, 0.612f);
  EXPECT_EQ(model.layers[2].width, 160);
}

TEST(MimoConfig, YarnAndLinear) {
  const ModelConfig model = parse(mimo_config("yarn"));
  EXPECT_EQ(describe(model.layers[0]), "full heads 8/2 dims 24/16 rotary 16 theta 10000 window 0 bare dense 96");
  EXPECT_EQ(describe(model.layers[1]), "sliding heads 8/4 dims 24/16 rotary 8 theta 500 window 9 sinks moe 32");
  const RopeSpec& full = model.layers[2].rope;
  EXPECT_EQ(full.type, RopeType::yarn);
  EXPECT_EQ(full.factor, 4);
  EXPECT_EQ(full.original_positions, 16);
  EXPECT_EQ(full.beta_fast, 32);
  EXPECT_EQ(full.beta_slow, 1);
  EXPECT_DOUBLE_EQ(full.attention_factor, 1.1386294361119891);  // 0.1 * ln 4 + 1
  const RopeSpec& sliding = model.layers[1].rope;
  EXPECT_EQ(sliding.type, RopeType::linear);
  EXPECT_EQ(sliding.factor, 2);
  EXPECT_EQ(sliding.attention_factor, 1);
}

TEST(MimoConfig, DemonstrationModel) {
  const ModelConfig model = parse(file_text(test::source_dir() + "/apps/demo/millrace-demo/config.json"));
  const std::string full = "full heads 8/2 dims 48/32 rotary 16 theta 1000000 window 0 bare ";
  const std::string sliding = "sliding heads 8/4 dims 48/32 rotary 16 theta 10000 window 64 sinks ";
  EXPECT_THAT(describe_layers(model),
              ElementsAre(full + "dense 384", sliding + "moe 64", sliding + "moe 64", full + "moe 64",
                          sliding + "moe 64", sliding + "moe 64", sliding + "moe 64", full + "moe 64"));
  EXPECT_EQ(describe(model.mtp_layer), sliding + "dense 384");
  EXPECT_EQ(model.vocab, 3200);
  EXPECT_EQ(model.hidden, 224);
  EXPECT_EQ(model.max_positions, 2048);
  EXPECT_THAT(model.eos_ids, ElementsAre(3065));
}

TEST(MimoConfig, RopeScalingMergesIntoFullLayersOnly) {
  const ModelConfig model = parse(mimo_config("basic", R"({"rope_scaling": {"type": "yarn", "factor": 8,
      "original_max_position_embeddings": 4096, "beta_fast": 16, "attention_factor": 1.25}})"));
  EXPECT_EQ(model.layers[0].rope.type, RopeType::yarn);
  EXPECT_EQ(model.layers[0].rope.beta_fast, 16);
  EXPECT_EQ(model.layers[0].rope.attention_factor, 1.25);
  EXPECT_EQ(model.layers[0].rope.theta, 5e6);
  EXPECT_EQ(model.layers[1].rope.type, RopeType::plain);
  EXPECT_EQ(parse(mimo_config("basic", R"({"rope_scaling": {"rope_type": "default"}})")).layers[0].rope.type,
            RopeType::plain);
}

TEST(MimoConfig, AcceptsBothSpellingsWhereTheyAgree) {
  const ModelConfig model = parse(mimo_config("basic", R"({"sliding_window": 9, "rms_norm_eps": 1e-5,
      "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
      "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"], "num_local_experts": 8,
      "rope_parameters": {"full_attention": {"rope_theta": 5e6}, "sliding_attention": {"rope_theta": 1e4}}})"));
  EXPECT_EQ(describe_layers(model), describe_layers(parse(mimo_config("basic"))));
}

TEST(MimoConfig, HarmlessKeysAndOtherSpellings) {
  const ModelConfig model = parse(mimo_config("basic", R"({"transformers_version": "5.23", "surprise": {"a": [1]},
      "architectures": ["MiMoV2ForCausalLM"], "model_type": "mimo_v2", "attention_projection_layout": "split",
      "store_dtype": "fp8", "eos_token_id": [3, 5], "tie_word_embeddings": true, "hybrid_layer_pattern": null,
      "hybrid_block_size": 3, "n_shared_experts": 0, "add_full_attention_sink_bias": true})"));
  EXPECT_EQ(model.architecture, "MiMoV2ForCausalLM");
  EXPECT_THAT(model.eos_ids, ElementsAre(3, 5));
  EXPECT_TRUE(model.tied_embeddings);
  const AttentionKind full = AttentionKind::full, sliding = AttentionKind::sliding;
  std::vector<AttentionKind> kinds;
  for (const LayerSpec& layer : model.layers) kinds.push_back(layer.attention);
  EXPECT_THAT(kinds, ElementsAre(sliding, sliding, full, sliding));
  EXPECT_TRUE(model.layers[2].sinks);
}

// The error of a configuration with `changes`.
std::pair<Errc, std::string> error_with(const char* changes, const char* name = "basic") {
  try {
    parse(mimo_config(name, changes));
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("config.json"));
    return {error.code(), error.what()};
  }
  return {Errc::cancelled, "no error"};
}

TEST(MimoConfig, OtherLayoutsOfTheFiles) {
  for (const char* name : {"fused-qkv", "mxfp4"}) {
    const ModelConfig model = parse(mimo_config(name));
    EXPECT_EQ(model.architecture, "MiMoV2ForCausalLM");
    EXPECT_EQ(model.qkv_chunks, 2);
  }
  for (const auto& [changes, words] :
       {std::pair(R"({"attention_projection_layout": "packed"})", "packed"), {R"({"store_dtype": "int4"})", "int4"}}) {
    const auto [code, message] = error_with(changes);
    EXPECT_EQ(code, Errc::bad_config);
    EXPECT_THAT(message, HasSubstr(words));
  }
}

// The relatives that see and hear nest the configuration of their towers; the text model does not read it.
TEST(MimoConfig, TowersAreIgnored) {
  const ModelConfig model = parse(mimo_config("fused-qkv", R"({"vision_config": {"hidden_size": 7, "depth": 2},
      "audio_config": {"num_hidden_layers": "many"}, "speech_vocab_sizes": [1, 2], "image_token_id": 151655})"));
  EXPECT_EQ(model.hidden, 136);
}

struct Refusal {
  const char* changes;
  const char* words;
};

class MimoConfigRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(MimoConfigRefuses, AndSaysWhy) {
  EXPECT_THAT(error_with(GetParam().changes).second, HasSubstr(GetParam().words));
}

constexpr Refusal refusals[] = {
    {R"({"scoring_func": "softmax"})", "scoring_func is \"softmax\", expected \"sigmoid\""},
    {R"({"topk_method": "greedy"})", "topk_method"},
    {R"({"hidden_act": "gelu"})", "hidden_act"},
    {R"({"n_shared_experts": 1})", "n_shared_experts"},
    {R"({"use_qk_norm": true})", "use_qk_norm"},
    {R"({"final_logit_softcapping": 30.0})", "final_logit_softcapping"},
    {R"({"attention_projection_layout": "braided"})", "attention_projection_layout is \"braided\""},
    {R"({"store_dtype": "int3"})", "store_dtype is \"int3\""},
    {R"({"head_dim": 39})", "partial_rotary_factor 0.334 rotates 13 of 39"},
    {R"({"partial_rotary_factor": 0.01})", "rotates 0 of 24"},
    {R"({"partial_rotary_factor": 1.5})", "partial_rotary_factor is 1.5"},
    {R"({"rope_theta": 0})", "rope_theta is 0"},
    {R"({"rope_theta": "big"})", "rope_theta"},
    {R"({"rope_scaling": {"type": "linear"}})", "rope_scaling: factor is missing"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 2}})", "original_max_position_embeddings"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 9, "mscale": 1}})",
     "mscale"},
    {R"({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2}})", "rope_type is \"yarn\", but type"},
    {R"({"rope_parameters": {"full_attention": {"rope_theta": 5e6, "rope_type": "spiral"}}})", "rope_parameters"},
    {R"({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}})", "rope_theta"},
    {R"({"rope_parameters": {"rope_theta": 1e4}})", "rope_parameters has \"rope_theta\""},
    {R"({"rope_parameters": {"full_attention": {}}})", "full_attention: rope_theta is missing"},
    {R"({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"full_attention": {"rope_theta": 5e6}}})",
     "rope_scaling and config.json: rope_parameters: full_attention disagree"},
    {R"({"sliding_window": 7})", "sliding_window is 7, but sliding_window_size is 8"},
    {R"({"sliding_window": null, "sliding_window_size": null})", "sliding_window"},
    {R"({"moe_layer_freq": 1})", "moe_layer_freq is 1, expected a list"},
    {R"({"moe_layer_freq": null})", "mlp_layer_types"},
    {R"({"moe_layer_freq": [0, 1, 1]})", "moe_layer_freq has 3 entries, but num_hidden_layers is 4"},
    {R"({"layer_types": ["full_attention", "x", "y", "z"]})", "layer_types holds \"x\""},
    {R"({"mlp_layer_types": ["dense", "dense", "sparse", "sparse"]})",
     "moe_layer_freq and mlp_layer_types disagree about layer 1"},
    {R"({"topk_group": 2})", "topk_group is 2, but n_group is 1"},
    {R"({"n_group": 8})", "one expert per group"},
    {R"({"n_group": 4})", "keeps only 2 experts"},
    {R"({"num_local_experts": 9})", "num_local_experts is 9"},
    {R"({"swa_num_key_value_heads": 3})", "swa_num_key_value_heads 3"},
    {R"({"hidden_size": null})", "hidden_size is missing"},
    {R"({"vocab_size": 4294967296})", "vocab_size is 4294967296"},
    {R"({"layernorm_epsilon": -1e-5})", "layernorm_epsilon"},
    {R"({"eos_token_id": 200})", "eos_token_id is 200, expected an integer from 0 to 199"},
    {R"({"eos_token_id": [3, -1]})", "eos_token_id[1] is -1"},
    {R"({"quantization_config": {"quant_method": "awq"}})", "quant_method is \"awq\", expected \"fp8\""},
    {R"({"quantization_config": {"weight_block_size": [64, 128]}})", "weight_block_size"},
    {R"({"quantization_config": {"weight_block_size": null}})", "weight_block_size"},
    {R"({"quantization_config": {"fmt": "e5m2"}})", "fmt is \"e5m2\""},
    {R"({"quantization_config": {"activation_scheme": "static"}})", "activation_scheme"},
    {R"({"quantization_config": 8})", "quantization_config is 8, expected an object"},
};

INSTANTIATE_TEST_SUITE_P(Each, MimoConfigRefuses, ::testing::ValuesIn(refusals));

}  // namespace
}  // namespace millrace
