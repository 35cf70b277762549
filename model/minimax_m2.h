// MiniMax-M2: full attention with RMSNorm over the whole q and k projections and partly rotated heads, sigmoid-routed
// experts in every layer. Architecture MiniMaxM2ForCausalLM: M2, M2.1, M2.5 and M2.7.
#pragma once

#include "model/family.h"

namespace millrace {

extern const Family minimax_m2;

}  // namespace millrace
