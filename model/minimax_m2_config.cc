#include "model/minimax_m2_config.h"

#include <fmt/format.h>

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

constexpr double published_theta = 5e6;
constexpr std::int64_t published_rotary_dim = 64;
constexpr std::int32_t published_eos = 200020;
constexpr std::int64_t softmax_attention = 1;  // in attn_type_list; 0 is the linear attention of an older model

// Refuses what this family's forward pass does not contain. Published files also hold layernorm_*_alpha and _beta,
// which no implementation applies, and use_mtp, for which no weights were published.
void check_mathematics(const ConfigReader& config) {
  check_quantization(config);
  expect_text(config, "scoring_func", "sigmoid");
  expect_text(config, "hidden_act", "silu");
  expect_text(config, "qk_norm_type", "per_layer");
  expect_bool(config, "use_routing_bias", true);
  expect_bool(config, "attention_bias", false);
  for (const std::string_view key : {"shared_intermediate_size", "sliding_window"})
    require(config.find_integer({key}, {0, position_range.high}).value_or(0) == 0, Errc::bad_config,
            "{}: {} is above 0, but this architecture has none", config.where(), key);
  require(config.find_number({"routed_scaling_factor"}, scale_range).value_or(1) == 1, Errc::bad_config,
          "{}: routed_scaling_factor is not 1, but this architecture has none", config.where());
}

void check_attention_types(const ConfigReader& config, std::int64_t layers) {
  const auto types = config.find_integers("attn_type_list", {0, 255});
  if (!types) return;
  check_length(config, "attn_type_list", types->size(), layers);
  const auto other = std::find_if(types->begin(), types->end(), [](auto type) { return type != softmax_attention; });
  require(other == types->end(), Errc::bad_config, "{}: attn_type_list[{}] is {}, expected 1, softmax attention",
          config.where(), other - types->begin(), *other);
}

// Without a size all of a head's dimensions would rotate in some implementations; no published model does that.
std::int64_t assumed_rotary_dim(const ConfigReader& config, std::int64_t head_dim, std::vector<std::string>& warnings) {
  constexpr std::string_view absent = "neither rotary_dim nor partial_rotary_factor is present";
  require(published_rotary_dim <= head_dim, Errc::bad_config,
          "{}: {}, and the {} dimensions that the published models rotate do not fit head_dim {}", config.where(),
          absent, published_rotary_dim, head_dim);
  warnings.push_back(fmt::format("{}: {}; {} of the {} dimensions of a head are rotated, as in the published models",
                                 config.where(), absent, published_rotary_dim, head_dim));
  return published_rotary_dim;
}

// rotary_dim decides, since a factor is rounded down: Transformers makes 29 of 30 / 44 * 44.
std::int64_t read_rotary_dim(const ConfigReader& config, const std::optional<ConfigReader>& parameters,
                             std::int64_t head_dim, std::vector<std::string>& warnings) {
  if (const auto size = config.find_integer({"rotary_dim"}, {2, head_dim_range.high})) {
    require(*size % 2 == 0 && *size <= head_dim, Errc::bad_config,
            "{}: rotary_dim is {}, expected an even number up to head_dim {}", config.where(), *size, head_dim);
    return *size;
  }
  const auto factor = find_rope_number(config, "partial_rotary_factor", parameters, "partial_rotary_factor", {0, 1});
  return factor ? rotary_dim(head_dim, *factor, config.where()) : assumed_rotary_dim(config, head_dim, warnings);
}

RopeSpec read_rope(const ConfigReader& config, std::int64_t head_dim, std::vector<std::string>& warnings) {
  const auto parameters = config.find_object("rope_parameters");
  RopeSpec rope;
  rope.theta = find_rope_number(config, "rope_theta", parameters, "rope_theta", theta_range).value_or(published_theta);
  rope.rotary_dim = read_rotary_dim(config, parameters, head_dim, warnings);
  read_rope_scaling(config.find_object("rope_scaling"), parameters, rope);
  return rope;
}

LayerSpec read_layer(const ConfigReader& config, std::vector<std::string>& warnings) {
  LayerSpec layer;
  layer.heads = config.integer({"num_attention_heads"}, head_range);
  layer.kv_heads = config.integer({"num_key_value_heads"}, head_range);
  layer.qk_dim = layer.v_dim = config.integer({"head_dim"}, head_dim_range);
  layer.qk_norm = config.find_bool("use_qk_norm").value_or(true);
  layer.rope = read_rope(config, layer.qk_dim, warnings);
  layer.moe = true;
  layer.width = config.integer({"intermediate_size"}, width_range);
  check_heads(config, layer, "");
  return layer;
}

RouterSpec read_router(const ConfigReader& config) {
  RouterSpec router;
  router.experts = config.integer({"num_local_experts", "num_experts"}, expert_range);
  router.top_k = config.integer({"num_experts_per_tok"}, expert_range);
  require(router.top_k <= router.experts, Errc::bad_config, "{}: num_experts_per_tok is {}, but there are {} experts",
          config.where(), router.top_k, router.experts);
  return router;
}

// Mirrors of the published files carry the ids 1 and 2 of another model's tokenizer. They are ordinary text here and
// would end a generation at random. The published tokenizer ends a turn with [e~[.
void correct_eos(ModelConfig& model) {
  std::erase_if(model.eos_ids, [](std::int32_t id) { return id == 1 || id == 2; });
  if (model.eos_ids.empty() && published_eos < model.vocab) model.eos_ids.push_back(published_eos);
}

}  // namespace

ModelConfig parse_minimax_m2_config(std::string_view text, std::string_view file_name) {
  const nlohmann::json json = parse_json(text, file_name);
  const ConfigReader config(json, std::string(file_name));
  check_mathematics(config);
  ModelConfig model;
  model.family = "minimax_m2";
  read_common(config, model);
  correct_eos(model);
  const std::int64_t layers = config.integer({"num_hidden_layers"}, layer_range);
  check_attention_types(config, layers);
  model.layers.assign(static_cast<std::size_t>(layers), read_layer(config, model.warnings));
  model.router = read_router(config);
  model.hf_rounding.router = true;
  return model;
}

}  // namespace millrace
