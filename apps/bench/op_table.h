// Single operators at the shapes of a model, against the ceilings of the machine. Weights are made up: only the
// configuration of the model is read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/engine.h"

namespace millrace {

// A table for people: medians of `rounds` alternating rounds on each number of threads. Weights come from memory, not
// from caches. Throws what Engine::open throws.
std::string op_table(const std::filesystem::path& model, const EngineOptions& options, const std::vector<int>& threads,
                     int rounds);

}  // namespace millrace
