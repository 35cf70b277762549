#include "model/mimo_v2_flash.h"

#include <fmt/format.h>

#include "model/mimo_v2_flash_config.h"
#include "model/tool_format.h"

namespace millrace {
namespace {

constexpr std::string_view architectures[] = {"MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM"};
constexpr std::string_view model_types[] = {"mimo_v2_flash", "mimo_v2"};
constexpr std::string_view stop_tokens[] = {"<|im_end|>", "<|endoftext|>"};

void build_model(BuildContext& build) {
  ValueId x = embedding_block(build, "embed_tokens");
  for (std::size_t i = 0; i < build.config.layers.size(); ++i)
    x = decoder_block(build, fmt::format("layers.{}", i), build.config.layers[i], static_cast<int>(i), x);
  build.builder.keep(x);
  x = norm_block(build, "norm", x);
  head_block(build, "logits", x);
}

// Layer `index`: from the main model's hidden state of row t, before the final norm, and token t + 1 + index to the
// logits of token t + 2 + index. Source: SGLang, mimo_v2_flash_nextn.py.
void build_mtp(BuildContext& build, int index) {
  const std::string name = fmt::format("mtp.layers.{}", index);
  ValueId x = mtp_input_block(build, name);
  x = decoder_block(build, name, build.config.mtp_layer, index, x, "pre_mlp_layernorm");
  build.builder.keep(x);
  x = norm_block(build, name + ".final_layernorm", x);
  head_block(build, name + ".logits", x);
}

}  // namespace

constinit const Family mimo_v2_flash = {.name = "mimo_v2_flash",
                                        .architectures = architectures,
                                        .model_types = model_types,
                                        .stop_tokens = stop_tokens,
                                        .tool_format = &mimo_tool_format,
                                        .parse_config = parse_mimo_v2_flash_config,
                                        .build = build_model,
                                        .build_mtp = build_mtp};

}  // namespace millrace
