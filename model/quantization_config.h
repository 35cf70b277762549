// The quantization_config of block-FP8 checkpoints. The files say which tensors are FP8; this only refuses what would
// be read wrongly.
#pragma once

#include "model/config_reader.h"

namespace millrace {

// `config` is the whole configuration. Throws Error: bad_config for a quantization other than FP8 E4M3 with one scale
// per block of 128 x 128 and dynamic activations, or an unknown form of storage.
void check_quantization(const ConfigReader& config);

}  // namespace millrace
