// MiMo-V2-Flash: hybrid full and sliding-window attention with sinks, unequal key and value widths, sigmoid-routed
// experts. Architectures MiMoV2FlashForCausalLM and, with split projections, MiMoV2ForCausalLM.
#pragma once

#include "model/blocks.h"

namespace millrace {

// Appends the whole model: from the batch's tokens to the value "logits".
void build_mimo_v2_flash(BuildContext& build);

// Multi-token-prediction layer `index`: from the main model's hidden state of row t, before the final norm, and token
// t + 1 + index to the logits of token t + 2 + index. Source: SGLang, mimo_v2_flash_nextn.py.
void build_mimo_v2_flash_mtp(BuildContext& build, int index);

}  // namespace millrace
