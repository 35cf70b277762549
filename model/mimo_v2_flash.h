// MiMo-V2-Flash: hybrid full and sliding-window attention with sinks, unequal key and value widths, sigmoid-routed
// experts. Architectures MiMoV2FlashForCausalLM and, with split projections, MiMoV2ForCausalLM.
#pragma once

#include "model/blocks.h"

namespace millrace {

// Appends the whole model: from the batch's tokens to the value "logits".
void build_mimo_v2_flash(BuildContext& build);

}  // namespace millrace
