// Reads a whole checkpoint once and reports what is wrong with its values, without needing its configuration.
#pragma once

#include <string>
#include <vector>

#include "loader/checkpoint.h"
#include "loader/weight_options.h"

namespace millrace {

struct Finding {
  enum class Severity { warning, error };
  Severity severity;
  std::string tensor;   // as spelled in its file
  std::string message;  // names file, tensor and place
};

// Errors: NaN codes, non-finite scales and weights, an F8 weight without scales, scales without such a weight, a scale
// grid that fits no reading, data that cannot be read. Warnings: scales that are all 1. One finding per tensor, in the
// order of the files. `progress` may be empty.
std::vector<Finding> verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress);

}  // namespace millrace
