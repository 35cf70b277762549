#include "loader/tensor_names.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

// Both directions: `name` has this canonical form, and files that use its spellings write `name`.
void expect_spelling(const std::string& name, const std::string& canonical) {
  SpellingSet met;
  EXPECT_EQ(canonical_name(name, &met), canonical);
  EXPECT_EQ(file_spelling(canonical, met), name);
}

TEST(TensorNames, PublishedMiMo) {
  expect_spelling("model.norm.weight", "norm.weight");
  expect_spelling("lm_head.weight", "lm_head.weight");
  expect_spelling("model.layers.3.self_attn.attention_sink_bias", "layers.3.self_attn.attention_sink_bias");
  expect_spelling("model.layers.3.mlp.gate.e_score_correction_bias", "layers.3.mlp.gate.e_score_correction_bias");
  expect_spelling("model.mtp.layers.0.eh_proj.weight", "mtp.layers.0.eh_proj.weight");
  EXPECT_EQ(canonical_name("my.model.weight"), "my.model.weight");
  EXPECT_EQ(canonical_name(""), "");
  EXPECT_EQ(file_spelling("layers.0.mlp.gate.weight"), "model.layers.0.mlp.gate.weight");
}

TEST(TensorNames, PublishedMiniMax) {
  expect_spelling("model.layers.3.block_sparse_moe.gate.weight", "layers.3.mlp.gate.weight");
  expect_spelling("model.layers.3.block_sparse_moe.e_score_correction_bias",
                  "layers.3.mlp.gate.e_score_correction_bias");
  expect_spelling("model.layers.61.block_sparse_moe.experts.255.w1.weight",
                  "layers.61.mlp.experts.255.gate_proj.weight");
  expect_spelling("model.layers.61.block_sparse_moe.experts.0.w3.weight_scale_inv",
                  "layers.61.mlp.experts.0.up_proj.weight_scale_inv");
  expect_spelling("model.layers.61.block_sparse_moe.experts.12.w2.weight", "layers.61.mlp.experts.12.down_proj.weight");
}

TEST(TensorNames, Transformers5AndAutomodel) {
  expect_spelling("model.layers.3.mlp.e_score_correction_bias", "layers.3.mlp.gate.e_score_correction_bias");
  expect_spelling("model.layers.3.mlp.experts.gate_up_proj", "layers.3.mlp.experts.gate_up_proj");
  expect_spelling("model.layers.3.mlp.experts.gate_and_up_projs", "layers.3.mlp.experts.gate_up_proj");
  expect_spelling("model.layers.3.mlp.experts.down_projs", "layers.3.mlp.experts.down_proj");
  expect_spelling("model.layers.3.self_attn.sinks", "layers.3.self_attn.attention_sink_bias");
  expect_spelling("layers.3.mlp.gate.weight", "layers.3.mlp.gate.weight");
}

TEST(TensorNames, TheTextModel) {
  for (const char* name : {"embed_tokens.weight", "layers.0.x", "mtp.layers.0.x", "norm.weight", "lm_head.weight"})
    EXPECT_TRUE(is_text_tensor(name)) << name;
  for (const char* name : {"visual.blocks.0.norm1.weight", "audio_encoder.layers.0.x", "speech_embeddings.0.weight"})
    EXPECT_FALSE(is_text_tensor(canonical_name(name))) << name;
}

TEST(TensorNames, OnlyWholeComponentsCount) {
  for (const char* name : {"layers.0.xblock_sparse_moe.gate", "layers.0.block_sparse_moex.gate",
                           "layers.0.experts.w1.weight", "layers.0.experts..w1.weight", "layers.0.experts.1.w11.weight",
                           "layers.0.experts.1a.w1.weight", "layers.0.self_attn.sinks2", "experts.0.w1.weight"})
    EXPECT_EQ(canonical_name(name), name);
}

// What a folder uses decides, tensor by tensor: no spelling is read into another one's names.
TEST(TensorNames, SpellingsAreGatheredOverAFolder) {
  SpellingSet met;
  canonical_name("model.layers.0.block_sparse_moe.experts.0.w1.weight", &met);
  EXPECT_EQ(file_spelling("layers.5.mlp.experts.7.gate_proj.weight", met),
            "model.layers.5.block_sparse_moe.experts.7.w1.weight");
  EXPECT_EQ(file_spelling("layers.5.mlp.gate.weight", met), "model.layers.5.block_sparse_moe.gate.weight");
  EXPECT_EQ(file_spelling("layers.5.input_layernorm.weight", met), "model.layers.5.input_layernorm.weight");
}

}  // namespace
}  // namespace millrace
