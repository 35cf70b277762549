// Writes a synthetic checkpoint: a hub folder with the exact tensors of a model and random values of sensible size, for
// tests and benchmarks. Activations stay of size 1, routing spreads over the experts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "model/synthetic_config.h"

namespace millrace {

struct SyntheticOptions {
  int mtp_layers = 0;      // multi-token-prediction layers, in model_mtp.safetensors
  std::uint64_t seed = 0;  // of all values; the same seed gives the same bytes
  bool sparse = false;     // files of the full size without data: all zeros, and no room on the disk
  std::uint64_t max_shard_bytes = std::uint64_t{4} << 30;
  std::optional<std::uint64_t> free_bytes;  // what the disk can take; else the system is asked
  // Called with the bytes written so far and in all. What it throws ends the writing.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

// Bytes of all tensors.
std::uint64_t synthetic_bytes(const SyntheticModel& model, const SyntheticOptions& options);

// Writes the folder, which must be empty or not exist; its parent must exist. Configuration and index come last, so a
// folder that was never finished is none to any reader; after an error what was written is removed.
// Throws Error: bad_argument for a folder with contents or too many prediction layers; io where the disk is too small,
// which is checked in advance, or the system refuses.
void write_synthetic(const SyntheticModel& model, const std::filesystem::path& folder, const SyntheticOptions& options);

}  // namespace millrace
