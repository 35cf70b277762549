#include "model/mimo_v2_flash.h"

#include <fmt/format.h>

namespace millrace {
namespace {

// Layer `name`; `index` is its number among the layers with experts.
ValueId decoder_layer(BuildContext& build, const std::string& name, const LayerSpec& layer, int index,
                      const char* mlp_norm, ValueId x) {
  const ValueId attention_in = norm_block(build, name + ".input_layernorm", x);
  const ValueId attention = attention_block(build, name + ".self_attn", layer, attention_in);
  const ValueId middle = residual_block(build, name + ".attention_residual", x, attention);

  const ValueId mlp_in = norm_block(build, name + mlp_norm, middle);
  const ValueId mlp = layer.moe ? moe_block(build, name + ".mlp", layer, index, mlp_in)
                                : dense_block(build, name + ".mlp", layer, mlp_in);
  return residual_block(build, name, middle, mlp);
}

}  // namespace

void build_mimo_v2_flash(BuildContext& build) {
  ValueId x = embedding_block(build, "embed_tokens");
  for (int index = 0; index < static_cast<int>(build.config.layers.size()); ++index)
    x = decoder_layer(build, fmt::format("layers.{}", index), build.config.layers[static_cast<std::size_t>(index)],
                      index, ".post_attention_layernorm", x);
  build.builder.keep(x);
  x = norm_block(build, "norm", x);
  head_block(build, "logits", x);
}

void build_mimo_v2_flash_mtp(BuildContext& build, int index) {
  const std::string name = fmt::format("mtp.layers.{}", index);
  ValueId x = mtp_input_block(build, name);
  x = decoder_layer(build, name, build.config.mtp_layer, index, ".pre_mlp_layernorm", x);
  build.builder.keep(x);
  x = norm_block(build, name + ".final_layernorm", x);
  head_block(build, name + ".logits", x);
}

}  // namespace millrace
