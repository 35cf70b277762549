#include "model/synthetic_tensors.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "loader/fp8_blocks.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// What the two families spell and store differently.
struct Naming {
  std::string_view moe, gate_bias;  // block with the experts; its correction bias, in it
  std::string_view gate, up, down;  // of one expert
  bool fp8_output;                  // whether o_proj is quantized
  bool grid_per_key_head;           // whether the scale grid of k_proj restarts with every head on full layers
  float bias_mean;                  // of correction biases, as observed
};

constexpr Naming mimo = {"mlp", "gate.e_score_correction_bias", "gate_proj", "up_proj", "down_proj", false, true, 0};
constexpr Naming minimax = {"block_sparse_moe", "e_score_correction_bias", "w1", "w3", "w2", true, false, 6};

class TensorList {
 public:
  explicit TensorList(const SyntheticModel& model)
      : model_(model), config_(model.config), naming_(model.family->name == "minimax_m2" ? minimax : mimo) {}

  std::vector<SyntheticTensor> take() { return std::move(tensors_); }

  void main_model() {
    embedding("model.embed_tokens");
    for (std::size_t i = 0; i < config_.layers.size(); ++i) {
      const std::string name = fmt::format("model.layers.{}", i);
      norm(name + ".input_layernorm", config_.hidden);
      norm(name + ".post_attention_layernorm", config_.hidden);
      attention(name + ".self_attn", config_.layers[i]);
      if (config_.layers[i].moe)
        experts(fmt::format("{}.{}", name, naming_.moe), config_.layers[i]);
      else
        dense(name + ".mlp", config_.layers[i]);
    }
    norm("model.norm", config_.hidden);
    if (!config_.tied_embeddings) linear("lm_head", config_.vocab, config_.hidden, false);
  }

  void mtp_layer(int index) {
    const std::string name = fmt::format("model.mtp.layers.{}", index);
    for (const char* part : {"enorm", "hnorm", "input_layernorm", "pre_mlp_layernorm", "final_layernorm"})
      norm(fmt::format("{}.{}", name, part), config_.hidden);
    linear(name + ".eh_proj", config_.hidden, 2 * config_.hidden, false);
    attention(name + ".self_attn", config_.mtp_layer);
    dense(name + ".mlp", config_.mtp_layer);
  }

 private:
  using Shape = std::vector<std::int64_t>;

  void add(std::string name, Dtype dtype, Shape shape, Distribution distribution, float mean, float deviation) {
    SyntheticTensor& tensor = tensors_.emplace_back();
    tensor.name = std::move(name);
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.distribution = distribution;
    tensor.mean = mean;
    tensor.deviation = deviation;
  }

  void normal(std::string name, Dtype dtype, Shape shape, float deviation, float mean = 0) {
    add(std::move(name), dtype, std::move(shape), Distribution::normal, mean, deviation);
  }

  void norm(const std::string& name, std::int64_t size) { normal(name + ".weight", Dtype::bf16, {size}, 0, 1); }

  // Tokens differ by far more than layers add to them, so that each finds experts of its own.
  void embedding(const std::string& name) { normal(name + ".weight", Dtype::bf16, {config_.vocab, config_.hidden}, 1); }

  // A product of inputs of size 1 has size 1. `segments`: runs of rows with a scale grid of their own.
  void linear(const std::string& name, std::int64_t out, std::int64_t in, bool quantized, std::int64_t segments = 1) {
    const float deviation = 1 / std::sqrt(static_cast<float>(in));
    if (!quantized || !model_.fp8) return normal(name + ".weight", Dtype::bf16, {out, in}, deviation);
    add(name + ".weight", Dtype::f8_e4m3, {out, in}, Distribution::fp8_codes, 0, 0);
    const float scale = deviation / fp8_codes_rms;
    add(name + ".weight_scale_inv", Dtype::f32, {segments * scale_blocks(out / segments), scale_blocks(in)},
        Distribution::uniform, scale, scale / 4);
  }

  void projection(const std::string& name, std::int64_t rows, std::int64_t segments = 1) {
    require(rows % segments == 0, Errc::bad_config, "the {} rows of {} cannot be cut into {} chunks", rows, name,
            segments);
    linear(name, rows, config_.hidden, true, segments);
    if (config_.qkv_bias) normal(name + ".bias", Dtype::bf16, {rows}, 0.1f);
  }

  void attention(const std::string& name, const LayerSpec& layer) {
    const std::int64_t q = layer.heads * layer.qk_dim, k = layer.kv_heads * layer.qk_dim;
    const std::int64_t v = layer.kv_heads * layer.v_dim;
    if (model_.fused_qkv) {
      projection(name + ".qkv_proj", q + k + v, config_.qkv_chunks);
    } else {
      const bool restarts = naming_.grid_per_key_head && layer.attention == AttentionKind::full;
      projection(name + ".q_proj", q);
      projection(name + ".k_proj", k, restarts ? layer.kv_heads : 1);
      projection(name + ".v_proj", v);
    }
    if (layer.qk_norm) norm(name + ".q_norm", q);
    if (layer.qk_norm) norm(name + ".k_norm", k);
    if (layer.sinks) normal(name + ".attention_sink_bias", Dtype::bf16, {layer.heads}, 1);
    linear(name + ".o_proj", config_.hidden, layer.heads * layer.v_dim, naming_.fp8_output);
  }

  void swiglu(const std::string& name, const Naming& naming, std::int64_t width) {
    linear(fmt::format("{}.{}", name, naming.gate), width, config_.hidden, true);
    linear(fmt::format("{}.{}", name, naming.up), width, config_.hidden, true);
    linear(fmt::format("{}.{}", name, naming.down), config_.hidden, width, true);
  }

  void dense(const std::string& name, const LayerSpec& layer) { swiglu(name, mimo, layer.width); }

  // Scores of size 1 before the sigmoid and a bias that is small beside them, so that routing spreads.
  void experts(const std::string& name, const LayerSpec& layer) {
    const std::int64_t count = config_.router.experts;
    normal(name + ".gate.weight", Dtype::f32, {count, config_.hidden},
           1 / std::sqrt(static_cast<float>(config_.hidden)));
    normal(fmt::format("{}.{}", name, naming_.gate_bias), Dtype::f32, {count}, 0.02f, naming_.bias_mean);
    for (std::int64_t expert = 0; expert < count; ++expert)
      swiglu(fmt::format("{}.experts.{}", name, expert), naming_, layer.width);
  }

  const SyntheticModel& model_;
  const ModelConfig& config_;
  const Naming& naming_;
  std::vector<SyntheticTensor> tensors_;
};

}  // namespace

std::vector<SyntheticTensor> synthetic_tensors(const SyntheticModel& model) {
  TensorList list(model);
  list.main_model();
  return list.take();
}

std::vector<SyntheticTensor> synthetic_mtp_tensors(const SyntheticModel& model, int layers) {
  require(layers == 0 || model.family->build_mtp != nullptr, Errc::bad_argument,
          "{} has no multi-token-prediction layers", model.family->name);
  TensorList list(model);
  for (int index = 0; index < layers; ++index) list.mtp_layer(index);
  return list.take();
}

}  // namespace millrace
