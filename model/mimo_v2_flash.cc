#include "model/mimo_v2_flash.h"

#include <fmt/format.h>

namespace millrace {

void build_mimo_v2_flash(BuildContext& build) {
  ValueId x = embedding_block(build, "embed_tokens");
  for (std::size_t i = 0; i < build.config.layers.size(); ++i)
    x = decoder_block(build, fmt::format("layers.{}", i), build.config.layers[i], static_cast<int>(i), x);
  build.builder.keep(x);
  x = norm_block(build, "norm", x);
  head_block(build, "logits", x);
}

void build_mimo_v2_flash_mtp(BuildContext& build, int index) {
  const std::string name = fmt::format("mtp.layers.{}", index);
  ValueId x = mtp_input_block(build, name);
  x = decoder_block(build, name, build.config.mtp_layer, index, x, "pre_mlp_layernorm");
  build.builder.keep(x);
  x = norm_block(build, name + ".final_layernorm", x);
  head_block(build, name + ".logits", x);
}

}  // namespace millrace
