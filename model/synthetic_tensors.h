// The tensors of a synthetic checkpoint: names, element types and shapes exactly as the published files of its family
// have them, in the order of the model, and how the values of each are distributed. Pure functions.
#pragma once

#include <vector>

#include "loader/safetensors_writer.h"
#include "model/synthetic_config.h"

namespace millrace {

enum class Distribution {
  normal,
  uniform,
  fp8_codes,  // normal, such that every block of 128 x 128 has a code of +-448, as quantizers leave them
};

struct SyntheticTensor : TensorHeader {
  Distribution distribution = Distribution::normal;
  float mean = 0, deviation = 0;  // of normal; uniform: half the width; not of fp8_codes
};

// Root mean square of the values that Distribution::fp8_codes stands for.
inline constexpr float fp8_codes_rms = 125;

// Of the main model.
std::vector<SyntheticTensor> synthetic_tensors(const SyntheticModel& model);

// Of `layers` multi-token-prediction layers, which published files hold apart. Throws Error(bad_argument) for a family
// without them.
std::vector<SyntheticTensor> synthetic_mtp_tensors(const SyntheticModel& model, int layers);

}  // namespace millrace
