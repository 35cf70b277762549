#include "model/synthetic_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "loader/json.h"
#include "loader/text_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

constexpr std::int64_t max_config_bytes = 16 << 20;

constexpr SyntheticShape shapes[] = {
    {"mimo_v2_flash", "mimo-reduced", "12 layers, hidden 2048, 64 experts of 1024"},
    {"mimo_v2_flash", "mimo-reduced-256", "the same with 256 experts"},
    {"mimo_v2_flash", "mimo-layers", "3 layers of the published sizes, 64 experts"},
    {"mimo_v2_flash", "full", "MiMo-V2-Flash: 48 layers, 256 experts"},
    {"minimax_m2", "minimax-reduced", "8 layers, hidden 1536, 64 experts of 768"},
    {"minimax_m2", "full", "MiniMax-M2: 62 layers, 256 experts"},
};

// Of MiMo-V2-Flash: full attention in layer 0 and then in every sixth, counted from 1; experts in all but layer 0.
int published_kind(std::int64_t layer) {
  return layer == 0 || (layer + 1) % 6 == 0 ? 0 : 1;
}

// The list `key` of one entry per layer, cut or continued by `entry`.
template <class Entry>
void resize_list(json& config, const char* key, std::int64_t layers, Entry entry) {
  const auto list = config.find(key);
  if (list == config.end() || !list->is_array()) return;
  while (std::ssize(*list) > layers) list->erase(list->size() - 1);
  for (std::int64_t layer = std::ssize(*list); layer < layers; ++layer) list->push_back(entry(layer));
}

void set_layers(json& config, std::int64_t layers) {
  config["num_hidden_layers"] = layers;
  resize_list(config, "hybrid_layer_pattern", layers, published_kind);
  resize_list(config, "layer_types", layers,
              [](std::int64_t layer) { return published_kind(layer) == 0 ? "full_attention" : "sliding_attention"; });
  resize_list(config, "moe_layer_freq", layers, [](std::int64_t) { return 1; });
  resize_list(config, "mlp_layer_types", layers, [](std::int64_t) { return "sparse"; });
  resize_list(config, "attn_type_list", layers, [](std::int64_t) { return 1; });
}

void set_experts(json& config, std::int64_t experts) {
  for (const char* key : {"n_routed_experts", "num_local_experts", "num_experts"})
    if (config.contains(key)) config[key] = experts;
}

json quantization_of(std::string_view family, std::int64_t layers) {
  json quantization = {{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {128, 128}}};
  if (family == "minimax_m2") {
    quantization["fmt"] = "float8_e4m3fn";
    quantization["modules_to_not_convert"] = {"gate", "e_score_correction_bias", "lm_head"};
    return quantization;
  }
  quantization["fmt"] = "e4m3";
  json ignored = json::array();
  for (std::int64_t layer = 0; layer < layers; ++layer)
    ignored.push_back(fmt::format("model.layers.{}.self_attn.o_proj", layer));
  ignored.push_back("model.decoder.self_attn.o_proj");  // the published name of the prediction layers' o_proj
  quantization["ignored_layers"] = std::move(ignored);
  return quantization;
}

// MiMo-V2-Flash's config.json as published, without what concerns other software.
json full_mimo() {
  json config = {{"architectures", {"MiMoV2FlashForCausalLM"}},
                 {"model_type", "mimo_v2_flash"},
                 {"torch_dtype", "bfloat16"},
                 {"vocab_size", 152576},
                 {"hidden_size", 4096},
                 {"intermediate_size", 16384},
                 {"moe_intermediate_size", 2048},
                 {"num_attention_heads", 64},
                 {"head_dim", 192},
                 {"v_head_dim", 128},
                 {"num_key_value_heads", 4},
                 {"swa_num_attention_heads", 64},
                 {"swa_head_dim", 192},
                 {"swa_v_head_dim", 128},
                 {"swa_num_key_value_heads", 8},
                 {"hybrid_layer_pattern", json::array()},
                 {"hybrid_block_size", nullptr},
                 {"sliding_window", 128},
                 {"sliding_window_size", 128},
                 {"attention_chunk_size", 128},
                 {"rope_theta", 5000000},
                 {"swa_rope_theta", 10000},
                 {"partial_rotary_factor", 0.334},
                 {"rope_scaling", nullptr},
                 {"max_position_embeddings", 262144},
                 {"layernorm_epsilon", 1e-05},
                 {"attention_bias", false},
                 {"attention_dropout", 0.0},
                 {"attention_value_scale", 0.707},
                 {"add_full_attention_sink_bias", false},
                 {"add_swa_attention_sink_bias", true},
                 {"n_routed_experts", 256},
                 {"num_experts_per_tok", 8},
                 {"n_shared_experts", nullptr},
                 {"moe_layer_freq", {0}},
                 {"scoring_func", "sigmoid"},
                 {"topk_method", "noaux_tc"},
                 {"n_group", 1},
                 {"topk_group", 1},
                 {"norm_topk_prob", true},
                 {"routed_scaling_factor", nullptr},
                 {"hidden_act", "silu"},
                 {"tie_word_embeddings", false},
                 {"initializer_range", 0.02},
                 {"eos_token_id", 151645},
                 {"pad_token_id", 151643}};
  set_layers(config, 48);
  return config;
}

json full_minimax() {
  json config = {{"architectures", {"MiniMaxM2ForCausalLM"}},
                 {"model_type", "minimax_m2"},
                 {"dtype", "bfloat16"},
                 {"vocab_size", 200064},
                 {"hidden_size", 3072},
                 {"intermediate_size", 1536},
                 {"num_attention_heads", 48},
                 {"num_key_value_heads", 8},
                 {"head_dim", 128},
                 {"rotary_dim", 64},
                 {"num_local_experts", 256},
                 {"num_experts_per_tok", 8},
                 {"shared_intermediate_size", 0},
                 {"scoring_func", "sigmoid"},
                 {"use_routing_bias", true},
                 {"rope_theta", 5000000},
                 {"use_qk_norm", true},
                 {"qk_norm_type", "per_layer"},
                 {"rms_norm_eps", 1e-06},
                 {"attn_type_list", json::array()},
                 {"max_position_embeddings", 196608},
                 {"sliding_window", nullptr},
                 {"tie_word_embeddings", false},
                 {"hidden_act", "silu"}};
  set_layers(config, 62);
  return config;
}

json named_config(const SyntheticShape& shape) {
  json config = shape.family == "minimax_m2" ? full_minimax() : full_mimo();
  if (shape.name.starts_with("mimo-reduced")) {
    config.merge_patch({{"vocab_size", 32768},
                        {"hidden_size", 2048},
                        {"intermediate_size", 8192},
                        {"moe_intermediate_size", 1024},
                        {"num_attention_heads", 32},
                        {"swa_num_attention_heads", 32},
                        {"n_routed_experts", shape.name == "mimo-reduced-256" ? 256 : 64},
                        {"eos_token_id", nullptr},
                        {"pad_token_id", nullptr}});
    set_layers(config, 12);
  } else if (shape.name == "mimo-layers") {
    config["n_routed_experts"] = 64;
    set_layers(config, 3);
    config["hybrid_layer_pattern"] = {0, 0, 1};  // dense, full attention with experts, sliding with experts
  } else if (shape.name == "minimax-reduced") {
    config.merge_patch({{"vocab_size", 32768},
                        {"hidden_size", 1536},
                        {"intermediate_size", 768},
                        {"num_attention_heads", 24},
                        {"num_key_value_heads", 4},
                        {"num_local_experts", 64}});
    set_layers(config, 8);
  }
  config["quantization_config"] = quantization_of(shape.family, config["num_hidden_layers"].get<std::int64_t>());
  return config;
}

const SyntheticShape& find_shape(const SyntheticRequest& request) {
  std::vector<std::string_view> names;
  const SyntheticShape* found = nullptr;
  for (const SyntheticShape& shape : shapes) {
    if (!request.family.empty() && shape.family != request.family) continue;
    names.push_back(shape.name);
    if (shape.name != request.shape) continue;
    require(found == nullptr, Errc::bad_argument, "shape \"{}\" is one of {} and one of {}; name the family",
            request.shape, shape.family, found != nullptr ? found->family : "");
    found = &shape;
  }
  require(found != nullptr, Errc::bad_argument,
          "shape \"{}\" is neither known nor the path of a config.json; known{}{}: {}", request.shape,
          request.family.empty() ? "" : " of ", request.family, fmt::join(names, ", "));
  return *found;
}

bool is_file(const std::string& path) {
  std::error_code failure;
  return std::filesystem::exists(path, failure) && !std::filesystem::is_directory(path, failure);
}

// What the request asks to differ from the shape.
void change(json& config, const SyntheticRequest& request, std::string_view family) {
  if (request.layers) set_layers(config, *request.layers);
  if (request.experts) set_experts(config, *request.experts);
  const bool fp8 = request.fp8.value_or(config.contains("quantization_config"));
  config.erase("quantization_config");
  if (fp8) config["quantization_config"] = quantization_of(family, config.value("num_hidden_layers", std::int64_t{0}));
}

}  // namespace

std::span<const SyntheticShape> synthetic_shapes() {
  return shapes;
}

SyntheticModel synthetic_model(const SyntheticRequest& request) {
  SyntheticModel model;
  const bool from_file = is_file(request.shape);
  const std::string where = from_file ? request.shape : "shape " + request.shape;
  model.config_text =
      from_file ? read_text_file(request.shape, max_config_bytes) : named_config(find_shape(request)).dump(2) + "\n";
  model.family = &family_of(model.config_text, where);
  require(request.family.empty() || request.family == model.family->name, Errc::bad_argument,
          "{} is of the family {}, not {}", where, model.family->name, request.family);
  json config = parse_json(model.config_text, where);
  if (request.layers || request.experts || request.fp8) {
    change(config, request, model.family->name);
    model.config_text = config.dump(2) + "\n";
  }
  model.config = model.family->parse_config(model.config_text, where);
  model.fp8 = config.contains("quantization_config") && !config["quantization_config"].is_null();
  model.fused_qkv = config.value("attention_projection_layout", "split") == "fused_qkv";
  require(config.value("store_dtype", "") != "mxfp4", Errc::unsupported,
          "{}: store_dtype is mxfp4, expected fp8 or bfloat16", where);
  return model;
}

}  // namespace millrace
