// Measures a model in rounds, each result next to the ceilings of the machine that bound it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/bench/guess_bench.h"
#include "apps/bench/report.h"
#include "model/engine.h"

namespace millrace {

struct BenchPlan {
  std::filesystem::path model;
  EngineOptions engine;                    // but for its threads
  std::string numerics;                    // what the user calls them
  std::vector<int> threads;                // each of them
  std::vector<std::int64_t> prompts = {};  // tokens of a prefill
  std::vector<std::int64_t> batches = {};  // sessions decoding in one pass, at the first depth
  std::vector<std::int64_t> depths = {};   // tokens a session holds before it decodes, in the first batch
  std::int64_t generate = 64;              // tokens of a decode, per session and round
  int rounds = 5;
  bool load = true;
  std::optional<GuessPlan> guesses = {};                   // of prediction layers; measured on the most threads
  std::uint64_t read_bytes = std::uint64_t{1} << 30;       // of the measured read: many times what caches hold
  std::function<void(const std::string& stage)> progress;  // may be empty
};

// Prompts and depths are cut to what the context holds. Loading is measured in the first most_loads rounds, with the
// files dropped from the page cache, so that the disk bounds it. Throws what Engine::open throws.
BenchReport run_bench(const BenchPlan& plan);

inline constexpr int most_loads = 3;

}  // namespace millrace
