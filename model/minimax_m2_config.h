// The configuration of MiniMax-M2, M2.1, M2.5 and M2.7 (MiniMaxM2ForCausalLM), in the spelling of the published files
// or of Transformers 5. Pure functions, safe from any thread.
#pragma once

#include <string_view>

#include "model/config.h"

namespace millrace {

// `text` is a config.json; messages call it `file_name`. What it leaves out and had to be assumed is in `warnings`.
// Throws Error: bad_file (no JSON), bad_config (missing, contradictory, out of range, or asking for mathematics this
// family does not have).
ModelConfig parse_minimax_m2_config(std::string_view text, std::string_view file_name);

}  // namespace millrace
