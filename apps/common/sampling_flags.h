// Flags that say how tokens are drawn, the same wherever text is generated.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/sampler.h"

namespace millrace {

class Engine;

struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> biases;  // "ID=V"

  // --temperature, --top-k, --top-p, --min-p, --repetition-penalty, --logit-bias, --seed
  void add_to(CLI::App& app);
  // What generation_config.json recommends where no flag says otherwise; without --seed a random one.
  SamplingOptions options(const Engine& engine) const;
};

}  // namespace millrace
