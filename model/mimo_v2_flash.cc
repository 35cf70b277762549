#include "model/mimo_v2_flash.h"

#include <fmt/format.h>

namespace millrace {
namespace {

ValueId decoder_layer(BuildContext& build, int index, ValueId x) {
  const LayerSpec& layer = build.config.layers[static_cast<std::size_t>(index)];
  const std::string name = fmt::format("layers.{}", index);

  const ValueId attention_in = norm_block(build, name + ".input_layernorm", x);
  const ValueId attention = attention_block(build, name + ".self_attn", layer, attention_in);
  const ValueId middle = residual_block(build, name + ".attention_residual", x, attention);

  const ValueId mlp_in = norm_block(build, name + ".post_attention_layernorm", middle);
  const ValueId mlp = layer.moe ? moe_block(build, name + ".mlp", layer, index, mlp_in)
                                : dense_block(build, name + ".mlp", layer, mlp_in);
  return residual_block(build, name, middle, mlp);
}

}  // namespace

void build_mimo_v2_flash(BuildContext& build) {
  ValueId x = embedding_block(build, "embed_tokens");
  for (int index = 0; index < static_cast<int>(build.config.layers.size()); ++index) x = decoder_layer(build, index, x);
  x = norm_block(build, "norm", x);
  head_block(build, "logits", x);
}

}  // namespace millrace
