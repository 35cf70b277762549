// How weights are held in memory.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/numerics.h"

namespace millrace {

class Parallel;

// Called on the loading thread with bytes.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct WeightOptions {
  Numerics numerics = Numerics::fast;
  WeightFormat format = WeightFormat::bf16;  // of F8_E4M3 weights; fast and hf only, others keep the codes
  const Parallel* parallel = nullptr;        // not owned; null loads on one thread
  Progress progress = {};                    // may be empty
  // Copies also what could be used in the mapped file: computing then never touches a page that a shrinking file or a
  // failing disk could take away, and large copies lie on large pages.
  bool resident = false;
  int mtp_layers = 0;         // multi-token-prediction layers that will be asked for; they count in the progress
  bool headers_only = false;  // checks and counts everything, reads no data: results must not be used
};

}  // namespace millrace
