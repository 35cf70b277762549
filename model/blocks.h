// Blocks: the parts models are composed of. Each appends its steps to the Program under the checkpoint's module names
// and returns the value it ends in. A block decides where `hf` numerics rounds; the operators only obey.
#pragma once

#include <string>
#include <string_view>

#include "model/config.h"
#include "runtime/expert_source.h"
#include "runtime/numerics.h"
#include "runtime/program.h"

namespace millrace {

class WeightStore;

// What a family builds from and into. All references outlive the built Program.
struct BuildContext {
  const ModelConfig& config;
  WeightStore& weights;
  ExpertSource& experts;
  ProgramBuilder& builder;
  Numerics numerics;
  std::int64_t context;  // most tokens of a session
  bool drafts = false;   // logits are wanted of what may follow only, to guess by: those of large vocabularies are
                         // estimates, but for the largest
  bool hints = false;    // layers also guess which experts the next one will choose, for a source that reads them
};

// (rows, hidden) of the batch's tokens, from the embedding table.
ValueId embedding_block(BuildContext& build, const std::string& name);

ValueId norm_block(BuildContext& build, const std::string& name, ValueId x);

// Grouped-query attention: q, k and v projections, rotary embedding, attention over the layer's cache, output
// projection. `name` is e.g. "layers.3.self_attn"; the result, `name`.o_proj, is what the residual stream receives.
ValueId attention_block(BuildContext& build, const std::string& name, const LayerSpec& layer, ValueId x);

// SwiGLU MLP: down(silu(gate(x)) * up(x)).
ValueId dense_block(BuildContext& build, const std::string& name, const LayerSpec& layer, ValueId x);

// The routers' choices: ids, and weights behind them. The steps are called `name`.router_logits and `name`.topk, the
// weights are those of `router`.gate.
ValueId router_block(BuildContext& build, const std::string& name, const std::string& router, int layer_index,
                     ValueId x);

// Router and experts. `layer_index` is the layer's number for the ExpertSource, `guess` what router_block() said of the
// next layer, or -1.
ValueId moe_block(BuildContext& build, const std::string& name, const LayerSpec& layer, int layer_index, ValueId x,
                  ValueId guess = -1);

// A whole layer: norm, attention, residual sum, norm, MLP or experts, residual sum. `name` is e.g. "layers.3",
// `mlp_norm` the second norm's name in it.
ValueId decoder_block(BuildContext& build, const std::string& name, const LayerSpec& layer, int layer_index, ValueId x,
                      std::string_view mlp_norm = "post_attention_layernorm");

ValueId residual_block(BuildContext& build, const std::string& name, ValueId x, ValueId delta);

// What a multi-token-prediction layer starts from: `name`.eh_proj of the normalized embedding of the batch's tokens and
// the normalized hidden state of the main model, the embedding first. Hidden states are the Program's input
// `name`.hidden.
ValueId mtp_input_block(BuildContext& build, const std::string& name);

// Logits of the rows that want them, from the final norm's output.
ValueId head_block(BuildContext& build, const std::string& name, ValueId x);

}  // namespace millrace
