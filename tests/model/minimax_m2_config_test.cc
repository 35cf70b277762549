#include "model/minimax_m2_config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "runtime/error.h"
#include "tests/model/config_text.h"
#include "tests/support/errors.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ModelConfig parse(const std::string& name, const char* changes = "{}") {
  return parse_minimax_m2_config(minimax_config(name, changes), "config.json");
}

TEST(MinimaxConfig, PublishedSpelling) {
  const ModelConfig model = parse("basic");
  EXPECT_EQ(model.family, "minimax_m2");
  EXPECT_EQ(model.architecture, "MiniMaxM2ForCausalLM");
  EXPECT_EQ(model.model_type, "minimax_m2");
  EXPECT_EQ(model.vocab, 200);
  EXPECT_EQ(model.hidden, 160);
  EXPECT_EQ(model.max_positions, 196608);
  EXPECT_EQ(model.epsilon, 1e-6f);
  EXPECT_EQ(model.value_scale, 1);
  EXPECT_FALSE(model.qkv_bias);
  EXPECT_FALSE(model.tied_embeddings);
  EXPECT_FALSE(model.hf_rounding.shifted_scores);
  EXPECT_TRUE(model.hf_rounding.router);
  EXPECT_EQ(model.router.experts, 10);
  EXPECT_EQ(model.router.top_k, 4);
  EXPECT_EQ(model.router.groups, 1);
  EXPECT_TRUE(model.router.normalize);
  EXPECT_EQ(model.router.norm_floor, 0);
  EXPECT_EQ(model.router.scale, 1);
  EXPECT_THAT(model.warnings, IsEmpty());
  ASSERT_EQ(model.layers.size(), 3u);
  for (const LayerSpec& layer : model.layers) {
    EXPECT_EQ(layer.attention, AttentionKind::full);
    EXPECT_EQ(layer.heads, 6);
    EXPECT_EQ(layer.kv_heads, 2);
    EXPECT_EQ(layer.qk_dim, 32);
    EXPECT_EQ(layer.v_dim, 32);
    EXPECT_EQ(layer.window, 0);
    EXPECT_FALSE(layer.sinks);
    EXPECT_TRUE(layer.qk_norm);
    EXPECT_TRUE(layer.moe);
    EXPECT_EQ(layer.width, 48);
    EXPECT_EQ(layer.rope.type, RopeType::plain);
    EXPECT_EQ(layer.rope.rotary_dim, 16);
    EXPECT_EQ(layer.rope.theta, 5e6);
  }
}

TEST(MinimaxConfig, Transformers5Spelling) {
  const ModelConfig model = parse("t5");
  EXPECT_EQ(model.layers[0].rope.rotary_dim, 12);
  EXPECT_EQ(model.layers[0].rope.theta, 5e6);
  EXPECT_EQ(parse("t5", R"({"num_local_experts": null, "num_experts": 6})").router.experts, 6);
}

TEST(MinimaxConfig, RotaryDimDecidesBeforeAnyFactor) {
  const auto rotary = [](const char* changes) { return parse("basic", changes).layers[0].rope.rotary_dim; };
  EXPECT_EQ(rotary(R"({"rotary_dim": 30, "head_dim": 44, "partial_rotary_factor": 0.6818181818181818})"), 30);
  EXPECT_EQ(rotary(R"({"rope_parameters": {"rope_theta": 5e6, "rope_type": "default"}})"), 16);
  EXPECT_EQ(rotary(R"({"rotary_dim": null, "partial_rotary_factor": 0.25})"), 8);
  EXPECT_EQ(rotary(R"({"rotary_dim": null, "rope_parameters": {"partial_rotary_factor": 0.75}})"), 24);
  EXPECT_EQ(rotary(R"({"rotary_dim": null, "partial_rotary_factor": 1})"), 32);
}

TEST(MinimaxConfig, WithoutARotarySizeThePublishedOneIsAssumedAloud) {
  const ModelConfig model = parse("basic", R"({"rotary_dim": null, "head_dim": 128})");
  EXPECT_EQ(model.layers[0].rope.rotary_dim, 64);
  EXPECT_THAT(model.warnings, ElementsAre(AllOf(HasSubstr("config.json"), HasSubstr("rotary_dim"),
                                                HasSubstr("64 of the 128 dimensions"))));
  EXPECT_EQ(parse("t5", R"({"head_dim": 64, "rope_parameters": {"partial_rotary_factor": null}})").warnings.size(), 1u);
}

TEST(MinimaxConfig, WhatChangesNothingIsTolerated) {
  const ModelConfig model = parse("basic", R"({
      "layernorm_full_attention_alpha": 3.5565588200778455, "layernorm_full_attention_beta": 1.0,
      "layernorm_mlp_alpha": 3.5565588200778455, "layernorm_linear_attention_beta": 1.0,
      "num_mtp_modules": 3, "router_aux_loss_coef": 0.001, "bos_token_id": 1, "attn_type_list": null,
      "use_qk_norm": null, "shared_intermediate_size": null, "torch_dtype": "bfloat16"})");
  EXPECT_TRUE(model.layers[0].qk_norm);
  EXPECT_THAT(model.warnings, IsEmpty());
}

TEST(MinimaxConfig, EndsOfAnotherTokenizerAreCorrected) {
  EXPECT_THAT(parse("basic", R"({"eos_token_id": 2})").eos_ids, IsEmpty());
  EXPECT_THAT(parse("basic", R"({"eos_token_id": [1, 2, 120]})").eos_ids, ElementsAre(120));
  for (const char* eos : {"200020", "[200020, 2]", "2", "[1, 2]", "null"}) {
    const std::string changes = fmt::format(R"({{"vocab_size": 200064, "eos_token_id": {}}})", eos);
    EXPECT_THAT(parse("basic", changes.c_str()).eos_ids, ElementsAre(200020)) << eos;
  }
}

TEST(MinimaxConfig, ScalingOfRotaryEmbeddings) {
  const char* yarn = R"({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 4096}})";
  const RopeSpec rope = parse("basic", yarn).layers[0].rope;
  EXPECT_EQ(rope.type, RopeType::yarn);
  EXPECT_EQ(rope.original_positions, 4096);
  EXPECT_EQ(parse("t5", R"({"rope_parameters": {"rope_type": "linear", "factor": 2}})").layers[0].rope.factor, 2);
}

struct Refusal {
  const char* changes;
  const char* words;
};

class MinimaxConfigRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(MinimaxConfigRefuses, AndSaysWhy) {
  const std::string message = test::error_of(Errc::bad_config, [] { parse("basic", GetParam().changes); });
  EXPECT_THAT(message, AllOf(HasSubstr("config.json"), HasSubstr(GetParam().words)));
}

constexpr Refusal refusals[] = {
    {R"({"attn_type_list": [1, 0, 1]})", "attn_type_list[1] is 0, expected 1"},
    {R"({"attn_type_list": [1, 1]})", "attn_type_list has 2 entries, but num_hidden_layers is 3"},
    {R"({"attn_type_list": 1})", "attn_type_list is 1, expected a list"},
    {R"({"scoring_func": "softmax"})", "scoring_func is \"softmax\", expected \"sigmoid\""},
    {R"({"hidden_act": "gelu"})", "hidden_act"},
    {R"({"qk_norm_type": "per_head"})", "qk_norm_type is \"per_head\", expected \"per_layer\""},
    {R"({"use_routing_bias": false})", "use_routing_bias is false, expected true"},
    {R"({"use_qk_norm": "yes"})", "use_qk_norm is \"yes\", expected true or false"},
    {R"({"attention_bias": true})", "attention_bias is true, expected false"},
    {R"({"shared_intermediate_size": 1536})", "shared_intermediate_size is above 0"},
    {R"({"sliding_window": 4096})", "sliding_window is above 0"},
    {R"({"routed_scaling_factor": 2.5})", "routed_scaling_factor"},
    {R"({"rotary_dim": 15})", "rotary_dim is 15, expected an even number up to head_dim 32"},
    {R"({"rotary_dim": 34})", "rotary_dim is 34"},
    {R"({"rotary_dim": 0})", "rotary_dim is 0"},
    {R"({"rotary_dim": null})", "neither rotary_dim nor partial_rotary_factor is present, and the 64 dimensions"},
    {R"({"rotary_dim": null, "partial_rotary_factor": 0.1})", "rotates 3 of 32"},
    {R"({"rotary_dim": null, "partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}})",
     "partial_rotary_factor is 0.5, but partial_rotary_factor of rope_parameters is 0.25"},
    {R"({"rope_parameters": {"rope_theta": 10000}})", "rope_theta is 5000000, but rope_theta of rope_parameters is"},
    {R"({"rope_parameters": {"rope_type": "dynamic", "factor": 2}})", "rope type \"dynamic\""},
    {R"({"rope_parameters": 5})", "rope_parameters is 5, expected an object"},
    {R"({"rope_theta": -1})", "rope_theta is -1"},
    {R"({"num_experts": 9})", "num_experts is 9"},
    {R"({"num_experts_per_tok": 11})", "num_experts_per_tok is 11, but there are 10 experts"},
    {R"({"num_key_value_heads": 4})", "num_attention_heads 6 is not a multiple of num_key_value_heads 4"},
    {R"({"num_key_value_heads": null})", "num_key_value_heads is missing"},
    {R"({"head_dim": null})", "head_dim is missing"},
    {R"({"intermediate_size": null})", "intermediate_size is missing"},
    {R"({"num_local_experts": null})", "none of num_local_experts, num_experts is present"},
    {R"({"num_hidden_layers": 0})", "num_hidden_layers is 0"},
    {R"({"rms_norm_eps": 0})", "rms_norm_eps"},
    {R"({"eos_token_id": 200020})", "eos_token_id is 200020, expected an integer from 0 to 199"},
    {R"({"quantization_config": {"quant_method": "awq"}})", "quant_method is \"awq\", expected \"fp8\""},
    {R"({"quantization_config": {"activation_scheme": "static"}})", "activation_scheme"},
};

INSTANTIATE_TEST_SUITE_P(All, MinimaxConfigRefuses, ::testing::ValuesIn(refusals));

}  // namespace
}  // namespace millrace
