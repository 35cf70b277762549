// The configuration of MiMo-V2-Flash and its relatives (MiMoV2FlashForCausalLM, MiMoV2ForCausalLM), in the spelling of
// the published files or of Transformers 5. Pure functions, safe from any thread.
#pragma once

#include <string_view>

#include "model/config.h"

namespace millrace {

// `text` is a config.json; messages call it `file_name`. Throws Error: bad_file (no JSON), bad_config (missing,
// contradictory, out of range, or asking for mathematics this family does not have), unsupported (a storage layout
// that cannot be read yet).
ModelConfig parse_mimo_v2_flash_config(std::string_view text, std::string_view file_name);

}  // namespace millrace
