// MiMo-V2-Flash: hybrid full and sliding-window attention with sinks, unequal key and value widths, sigmoid-routed
// experts, multi-token-prediction layers. Architectures MiMoV2FlashForCausalLM and, with split projections,
// MiMoV2ForCausalLM.
#pragma once

#include "model/family.h"

namespace millrace {

extern const Family mimo_v2_flash;

}  // namespace millrace
