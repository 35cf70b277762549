// A synthetic model small enough for tests, most of whose weight are its experts, of 400 KB each.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "model/synthetic.h"

namespace millrace::test {

// Writes `folder`/model with the layers of a named shape ("mimo-reduced", "minimax-reduced"), and prediction layers
// where the family has them; returns its path.
inline std::filesystem::path write_streamed_model(const std::filesystem::path& folder, const std::string& shape) {
  nlohmann::json config = nlohmann::json::parse(synthetic_model({.shape = shape, .layers = 6}).config_text);
  config["hidden_size"] = 512;
  config["num_attention_heads"] = 8;
  if (config.contains("swa_num_attention_heads")) config["swa_num_attention_heads"] = 8;
  const bool has_dense = config.contains("moe_intermediate_size");
  if (has_dense) config["moe_intermediate_size"] = 256;
  config["intermediate_size"] = has_dense ? 2048 : 256;
  config["vocab_size"] = 8192;
  const std::filesystem::path file = folder / "shape.json";
  std::ofstream(file) << config.dump();
  const SyntheticModel model = synthetic_model({.shape = file.string(), .fp8 = true});
  const std::filesystem::path path = folder / "model";
  write_synthetic(model, path, {.mtp_layers = model.family->build_mtp == nullptr ? 0 : 2});
  return path;
}

}  // namespace millrace::test
