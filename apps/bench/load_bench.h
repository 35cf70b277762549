// Opening a model from a cold disk, against what the disk gives.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench/report.h"
#include "loader/checkpoint.h"
#include "model/engine.h"

namespace millrace {

std::vector<std::filesystem::path> weight_files(const Checkpoint& checkpoint);

// Opens the model `rounds` times, each after the disk was measured on the model's own files and these were dropped from
// the page cache; fills `report`. Returns the engine of the last round. Throws what Engine::open throws.
std::unique_ptr<Engine> measure_loading(const std::filesystem::path& model, const EngineOptions& options, int rounds,
                                        const std::function<void(const std::string& stage)>& progress,
                                        BenchReport& report);

}  // namespace millrace
