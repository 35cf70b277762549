#include "model/mimo_v2_flash_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loader/json.h"
#include "model/common_config.h"
#include "model/config_reader.h"
#include "model/quantization_config.h"
#include "model/rope_config.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// What both spellings leave out when it has the published value (Transformers 5.23, configuration_mimo_v2_flash.py).
constexpr double full_theta = 5e6, sliding_theta = 1e4, rotary_factor = 0.334;

// Refuses what this family's forward pass does not contain, and storage layouts that are not known. Which layout it is
// is seen in the files.
void check_mathematics(const ConfigReader& config) {
  check_quantization(config);
  const std::string layout = config.find_text({"attention_projection_layout"}).value_or("split");
  require(layout == "split" || layout == "fused_qkv", Errc::bad_config,
          "{}: attention_projection_layout is \"{}\", expected \"split\" or \"fused_qkv\"", config.where(),
          shown(layout));
  expect_text(config, "scoring_func", "sigmoid");
  expect_text(config, "topk_method", "noaux_tc");
  expect_text(config, "hidden_act", "silu");
  require(config.find_integer({"n_shared_experts"}, {0, 1 << 16}).value_or(0) == 0, Errc::bad_config,
          "{}: n_shared_experts is above 0, but this architecture has no shared experts", config.where());
  expect_bool(config, "use_qk_norm", false);
  expect_bool(config, "mlp_bias", false);
  for (const std::string_view key : {"attn_logit_softcapping", "final_logit_softcapping"})
    require(!config.has(key), Errc::bad_config, "{}: {} is set, but this architecture has none", config.where(), key);
}

// Both spellings of a list with one of two words per layer, as the hub's digits 0 and 1.
struct LayerWords {
  std::string_view hub, names;
  std::string_view zero, one;  // what `names` lists instead of 0 and 1
};

std::vector<std::int64_t> read_layer_words(const ConfigReader& config, const LayerWords& words) {
  const auto names = config.find_texts(words.names);
  std::vector<std::int64_t> digits;
  for (const std::string& name : *names) {
    require(name == words.zero || name == words.one, Errc::bad_config, "{}: {} holds \"{}\", expected \"{}\" or \"{}\"",
            config.where(), words.names, shown(name), words.zero, words.one);
    digits.push_back(name == words.one ? 1 : 0);
  }
  return digits;
}

// Empty if neither spelling is present.
std::vector<std::int64_t> read_layer_digits(const ConfigReader& config, const LayerWords& words, std::int64_t layers) {
  const auto hub = config.find_integers(words.hub, {0, 1});
  if (hub) check_length(config, words.hub, hub->size(), layers);
  if (!config.has(words.names)) return hub.value_or(std::vector<std::int64_t>{});
  std::vector<std::int64_t> named = read_layer_words(config, words);
  check_length(config, words.names, named.size(), layers);
  if (hub) {
    const auto [a, b] = std::mismatch(hub->begin(), hub->end(), named.begin());
    require(a == hub->end(), Errc::bad_config, "{}: {} and {} disagree about layer {}", config.where(), words.hub,
            words.names, a - hub->begin());
  }
  return named;
}

// 0 = full, 1 = sliding.
std::vector<std::int64_t> read_pattern(const ConfigReader& config, std::int64_t layers) {
  std::vector<std::int64_t> pattern =
      read_layer_digits(config, {"hybrid_layer_pattern", "layer_types", "full_attention", "sliding_attention"}, layers);
  if (!pattern.empty()) return pattern;
  const std::optional<std::int64_t> block = config.find_integer({"hybrid_block_size"}, layer_range);
  require(block.has_value(), Errc::bad_config,
          "{}: neither hybrid_layer_pattern nor layer_types says which layers slide", config.where());
  for (std::int64_t i = 0; i < layers; ++i) pattern.push_back((i + 1) % *block == 0 ? 0 : 1);
  return pattern;
}

// 0 = dense, 1 = experts.
std::vector<std::int64_t> read_moe_layers(const ConfigReader& config, std::int64_t layers) {
  std::vector<std::int64_t> moe =
      read_layer_digits(config, {"moe_layer_freq", "mlp_layer_types", "dense", "sparse"}, layers);
  require(!moe.empty(), Errc::bad_config, "{}: neither moe_layer_freq nor mlp_layer_types is present", config.where());
  return moe;
}

// The published files count the keys before the query (sliding_window_size), Transformers 5 those with it.
std::int64_t read_window(const ConfigReader& config) {
  const auto before = config.find_integer({"sliding_window_size"}, position_range);
  const auto window = config.find_integer({"sliding_window"}, position_range);
  require(!before || !window || *window == *before || *window == *before + 1, Errc::bad_config,
          "{}: sliding_window is {}, but sliding_window_size is {}", config.where(), window.value_or(0),
          before.value_or(0));
  return before ? *before + 1 : window.value_or(0);
}

// Theta and rotated dimensions from the published spelling and from rope_parameters.<kind>, which must agree.
RopeSpec read_rope(const ConfigReader& config, const std::optional<ConfigReader>& parameters,
                   std::string_view theta_key, double default_theta, std::int64_t head_dim) {
  RopeSpec rope;
  rope.theta = find_rope_number(config, theta_key, parameters, "rope_theta", theta_range).value_or(default_theta);
  const double factor = find_rope_number(config, "partial_rotary_factor", parameters, "partial_rotary_factor", {0, 1})
                            .value_or(rotary_factor);
  rope.rotary_dim = rotary_dim(head_dim, factor, config.where());
  return rope;
}

std::optional<ConfigReader> read_rope_parameters(const ConfigReader& config, std::string_view kind) {
  const auto parameters = config.find_object("rope_parameters");
  if (!parameters) return std::nullopt;
  for (const std::string& key : parameters->keys())
    require(key == "full_attention" || key == "sliding_attention", Errc::bad_config,
            "{} has \"{}\", expected full_attention and sliding_attention", parameters->where(), shown(key));
  auto of_kind = parameters->find_object(kind);
  if (of_kind) require(of_kind->has("rope_theta"), Errc::bad_config, "{}: rope_theta is missing", of_kind->where());
  return of_kind;
}

LayerSpec read_full_layer(const ConfigReader& config) {
  LayerSpec layer;
  layer.attention = AttentionKind::full;
  layer.heads = config.integer({"num_attention_heads"}, head_range);
  layer.kv_heads = config.integer({"num_key_value_heads"}, head_range);
  layer.qk_dim = config.integer({"head_dim"}, head_dim_range);
  layer.v_dim = config.integer({"v_head_dim"}, head_dim_range);
  layer.sinks = config.find_bool("add_full_attention_sink_bias").value_or(false);
  const auto parameters = read_rope_parameters(config, "full_attention");
  layer.rope = read_rope(config, parameters, "rope_theta", full_theta, layer.qk_dim);
  read_rope_scaling(config.find_object("rope_scaling"), parameters, layer.rope);
  check_heads(config, layer, "");
  return layer;
}

LayerSpec read_sliding_layer(const ConfigReader& config, const LayerSpec& full) {
  LayerSpec layer;
  layer.attention = AttentionKind::sliding;
  layer.heads = config.find_integer({"swa_num_attention_heads"}, head_range).value_or(full.heads);
  layer.kv_heads = config.find_integer({"swa_num_key_value_heads"}, head_range).value_or(2 * full.kv_heads);
  layer.qk_dim = config.find_integer({"swa_head_dim"}, head_dim_range).value_or(full.qk_dim);
  layer.v_dim = config.find_integer({"swa_v_head_dim"}, head_dim_range).value_or(full.v_dim);
  layer.sinks = config.find_bool("add_swa_attention_sink_bias").value_or(true);
  layer.window = read_window(config);
  const auto parameters = read_rope_parameters(config, "sliding_attention");
  layer.rope = read_rope(config, parameters, "swa_rope_theta", sliding_theta, layer.qk_dim);
  read_rope_scaling(std::nullopt, parameters, layer.rope);
  check_heads(config, layer, "swa_");
  return layer;
}

void read_layers(const ConfigReader& config, ModelConfig& model) {
  const std::int64_t layers = config.integer({"num_hidden_layers"}, layer_range);
  const std::vector<std::int64_t> pattern = read_pattern(config, layers);
  const std::vector<std::int64_t> moe = read_moe_layers(config, layers);
  const std::int64_t dense_width = config.integer({"intermediate_size"}, width_range);
  const std::int64_t expert_width = config.integer({"moe_intermediate_size"}, width_range);
  const LayerSpec full = read_full_layer(config);
  const LayerSpec sliding = read_sliding_layer(config, full);
  require(sliding.window > 0 || std::count(pattern.begin(), pattern.end(), 1) == 0, Errc::bad_config,
          "{}: neither sliding_window nor sliding_window_size is present", config.where());
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    LayerSpec& layer = model.layers.emplace_back(pattern[i] == 0 ? full : sliding);
    layer.moe = moe[i] == 1;
    layer.width = layer.moe ? expert_width : dense_width;
  }
  model.qkv_chunks = full.kv_heads;
  model.mtp_layer = sliding;
  model.mtp_layer.width = dense_width;
}

// Of V2.6 files; what it means is the engine's choice (RouterDtype).
Dtype read_router_dtype(const ConfigReader& config) {
  const std::string dtype = config.find_text({"moe_router_dtype"}).value_or("float32");
  require(dtype == "float32" || dtype == "bfloat16", Errc::bad_config,
          "{}: moe_router_dtype is \"{}\", expected float32 or bfloat16", config.where(), shown(dtype));
  return dtype == "bfloat16" ? Dtype::bf16 : Dtype::f32;
}

RouterSpec read_router(const ConfigReader& config) {
  RouterSpec router;
  router.dtype = read_router_dtype(config);
  router.experts = config.integer({"n_routed_experts", "num_local_experts"}, expert_range);
  router.top_k = config.integer({"num_experts_per_tok"}, expert_range);
  router.groups = config.find_integer({"n_group"}, expert_range).value_or(1);
  router.top_groups = config.find_integer({"topk_group"}, expert_range).value_or(1);
  router.normalize = config.find_bool("norm_topk_prob").value_or(true);
  router.norm_floor = 1e-20f;  // transformers, modeling_mimo_v2_flash.py
  router.scale = static_cast<float>(config.find_number({"routed_scaling_factor"}, scale_range).value_or(1));
  require(router.top_k <= router.experts, Errc::bad_config, "{}: num_experts_per_tok is {}, but there are {} experts",
          config.where(), router.top_k, router.experts);
  require(router.experts % router.groups == 0, Errc::bad_config, "{}: n_group {} does not divide the {} experts",
          config.where(), router.groups, router.experts);
  require(router.top_groups <= router.groups, Errc::bad_config, "{}: topk_group is {}, but n_group is {}",
          config.where(), router.top_groups, router.groups);
  const std::int64_t group = router.experts / router.groups;
  require(router.groups == 1 || group >= 2, Errc::bad_config,
          "{}: n_group {} leaves one expert per group; a group is scored by its best two", config.where(),
          router.groups);
  require(router.top_k <= router.top_groups * group, Errc::bad_config,
          "{}: num_experts_per_tok is {}, but topk_group {} keeps only {} experts", config.where(), router.top_k,
          router.top_groups, router.top_groups * group);
  return router;
}

}  // namespace

ModelConfig parse_mimo_v2_flash_config(std::string_view text, std::string_view file_name) {
  const nlohmann::json json = parse_json(text, file_name);
  const ConfigReader config(json, std::string(file_name));
  check_mathematics(config);
  ModelConfig model;
  model.family = "mimo_v2_flash";
  read_common(config, model);
  model.value_scale = static_cast<float>(config.find_number({"attention_value_scale"}, scale_range).value_or(1));
  model.qkv_bias = config.find_bool("attention_bias").value_or(false);
  read_layers(config, model);
  model.router = read_router(config);
  model.hf_rounding.shifted_scores = true;
  return model;
}

}  // namespace millrace
