#include "model/common_config.h"

#include "runtime/error.h"

namespace millrace {

void expect_text(const ConfigReader& config, std::string_view key, std::string_view expected) {
  const std::string found = config.find_text({key}).value_or(std::string(expected));
  require(found == expected, Errc::bad_config, "{}: {} is \"{}\", expected \"{}\"", config.where(), key, shown(found),
          expected);
}

void expect_bool(const ConfigReader& config, std::string_view key, bool expected) {
  require(config.find_bool(key).value_or(expected) == expected, Errc::bad_config, "{}: {} is {}, expected {}",
          config.where(), key, !expected, expected);
}

void check_length(const ConfigReader& config, std::string_view key, std::size_t found, std::int64_t layers) {
  require(found == static_cast<std::size_t>(layers), Errc::bad_config,
          "{}: {} has {} entries, but num_hidden_layers is {}", config.where(), key, found, layers);
}

void check_heads(const ConfigReader& config, const LayerSpec& layer, std::string_view prefix) {
  require(layer.heads % layer.kv_heads == 0, Errc::bad_config,
          "{}: {}num_attention_heads {} is not a multiple of {}num_key_value_heads {}", config.where(), prefix,
          layer.heads, prefix, layer.kv_heads);
}

void read_names(const ConfigReader& config, ModelConfig& model) {
  const auto names = config.find_texts("architectures");
  if (names && !names->empty()) model.architecture = names->front();
  model.model_type = config.find_text({"model_type"}).value_or("");
}

void read_common(const ConfigReader& config, ModelConfig& model) {
  read_names(config, model);
  model.hidden = config.integer({"hidden_size"}, hidden_range);
  model.vocab = config.integer({"vocab_size"}, vocab_range);
  model.max_positions = config.integer({"max_position_embeddings"}, position_range);
  model.epsilon = static_cast<float>(config.number({"layernorm_epsilon", "rms_norm_eps"}, {1e-30, 1}));
  model.tied_embeddings = config.find_bool("tie_word_embeddings").value_or(false);
  const auto eos = config.find_one_or_more("eos_token_id", {0, model.vocab - 1}).value_or(std::vector<std::int64_t>{});
  for (const std::int64_t id : eos) model.eos_ids.push_back(static_cast<std::int32_t>(id));
}

}  // namespace millrace
