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
  std::string tensor;   // as spelled in its file; empty where it concerns several
  std::string message;  // names file, tensor and place
};

// What the codes of an FP8 weight say about its scale grid, where its shape alone does not: of a fused qkv_proj, and of
// a weight with more rows of scales than one grid has.
struct GridReading {
  std::string tensor;  // as spelled in its file
  std::int64_t rows = 0;
  std::vector<std::int64_t> fits;    // into how many equal runs of rows, each with a grid, the rows of scales allow
  std::vector<std::int64_t> passes;  // those under which the largest code of every block is +-448 (see grid_detector.h)
};

struct Verification {
  std::vector<Finding> findings;
  std::vector<GridReading> grids;
};

// Errors: NaN codes, non-finite scales and weights, a quantized weight without scales, scales without such a weight,
// scales that fit no reading, data that cannot be read.
// Warnings: scales that are all 1; codes that no reading of the scale grid explains, or only one that will not be used;
// one for all weights whose blocks do not reach 448 although their grid is beyond doubt.
// One finding per tensor, in the order of the files. `progress` may be empty.
Verification verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress);

}  // namespace millrace
