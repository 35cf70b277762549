// ModelConfig: what a checkpoint's config.json means, whichever spelling it used. Layers differ by data, never by
// class.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/dtype.h"

namespace millrace {

enum class AttentionKind { full, sliding };

enum class RopeType { plain, linear, yarn };

// Rotary embedding of one layer kind. Frequencies: theta^(-2i/rotary_dim), scaled by type (see ops/rope.h).
struct RopeSpec {
  RopeType type = RopeType::plain;
  std::int64_t rotary_dim = 0;  // leading dimensions of a head that rotate; even
  double theta = 0;
  double factor = 1;                     // linear, yarn
  std::int64_t original_positions = 0;   // yarn: original_max_position_embeddings
  double beta_fast = 32, beta_slow = 1;  // yarn
  double attention_factor = 1;           // multiplies cos and sin; yarn's default is resolved by the parser
};

struct LayerSpec {
  AttentionKind attention = AttentionKind::full;
  std::int64_t heads = 0, kv_heads = 0;
  std::int64_t qk_dim = 0, v_dim = 0;
  RopeSpec rope;
  std::int64_t window = 0;  // keys a query sees, itself included; 0 = all
  bool sinks = false;       // one more softmax logit per query head
  bool qk_norm = false;     // RMSNorm over the whole q and the whole k projection, before they are split into heads
  bool moe = false;
  std::int64_t width = 0;  // intermediate size of the dense MLP or of one expert
};

struct RouterSpec {
  Dtype dtype = Dtype::f32;  // of the router's product: f32, or bf16, which rounds operands and logits
  std::int64_t experts = 0, top_k = 0;
  std::int64_t groups = 1, top_groups = 1;
  bool normalize = true;  // divide the chosen scores by their sum
  float norm_floor = 0;   // added to that sum
  float scale = 1;        // routed_scaling_factor
};

// Where Transformers rounds to bf16 in one family and not in another; Numerics::hf follows.
struct HfRounding {
  bool shifted_scores = false;  // attention: score - largest score, before the exponential
  bool router = false;          // router logits and correction bias
};

struct ModelConfig {
  std::string family;        // "mimo_v2_flash"
  std::string architecture;  // the accepted entry of `architectures`
  std::string model_type;
  std::int64_t vocab = 0, hidden = 0;
  std::int64_t max_positions = 0;
  float epsilon = 0;  // of every RMSNorm
  float value_scale = 1;
  bool qkv_bias = false;
  bool tied_embeddings = false;
  std::int64_t qkv_chunks = 1;  // of a fused qkv_proj as published: kv heads of full attention (model/qkv_weights.h)
  std::vector<LayerSpec> layers;
  LayerSpec mtp_layer;  // every multi-token-prediction layer; their number comes from the files
  RouterSpec router;    // of every MoE layer
  HfRounding hf_rounding;
  std::vector<std::int32_t> eos_ids;  // config.json's eos_token_id, one or several
  std::vector<std::string> warnings;  // what had to be assumed, a sentence each
};

}  // namespace millrace
