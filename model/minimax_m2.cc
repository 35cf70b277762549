#include "model/minimax_m2.h"

#include <fmt/format.h>

#include "loader/checkpoint.h"
#include "model/common_config.h"
#include "model/minimax_m2_config.h"
#include "model/tool_format.h"

namespace millrace {
namespace {

constexpr std::string_view architectures[] = {"MiniMaxM2ForCausalLM"};
constexpr std::string_view model_types[] = {"minimax_m2"};
constexpr std::string_view stop_tokens[] = {"[e~["};

// Experts named w1 below block_sparse_moe and a q_norm over all heads tell; Mixtral has the former, others the latter.
// A MiniMax of another number is taken at its word.
bool recognizes(const ConfigReader& config, const Checkpoint& checkpoint) {
  ModelConfig given;
  read_names(config, given);
  if (given.model_type.starts_with("minimax_m") && given.model_type != model_types[0]) return false;
  if (given.architecture.starts_with("MiniMaxM") && given.architecture != architectures[0]) return false;
  const std::string_view first_expert = "layers.0.mlp.experts.0.gate_proj.";
  const auto expert = checkpoint.tensors().lower_bound(first_expert);
  if (expert == checkpoint.tensors().end() || !expert->first.starts_with(first_expert) ||
      expert->second.entry->name.find("block_sparse_moe.experts.0.w1.") == std::string::npos)
    return false;
  const StoredTensor norm = checkpoint.find("layers.0.self_attn.q_norm.weight");
  const auto heads = config.find_integer({"num_attention_heads"}, head_range);
  const auto head_dim = config.find_integer({"head_dim"}, head_dim_range);
  return norm && heads && head_dim && norm.entry->shape == std::vector<std::int64_t>{*heads * *head_dim};
}

void build_model(BuildContext& build) {
  ValueId x = embedding_block(build, "embed_tokens");
  for (std::size_t i = 0; i < build.config.layers.size(); ++i)
    x = decoder_block(build, fmt::format("layers.{}", i), build.config.layers[i], static_cast<int>(i), x);
  x = norm_block(build, "norm", x);
  head_block(build, "logits", x);
}

}  // namespace

constinit const Family minimax_m2 = {.name = "minimax_m2",
                                     .architectures = architectures,
                                     .model_types = model_types,
                                     .stop_tokens = stop_tokens,
                                     .tool_format = &minimax_tool_format,
                                     .parse_config = parse_minimax_m2_config,
                                     .build = build_model,
                                     .recognizes = recognizes};

}  // namespace millrace
