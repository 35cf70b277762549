// What `millrace eval` says about a text beside its dump: losses, perplexity, loads of experts.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/expert_load.h"
#include "model/loss.h"

namespace millrace {

struct EngineFlags;

// "tokens" (the prompt itself), a list of ids in which -100 does not count, or a file with such a list.
std::vector<std::int32_t> read_labels(const std::string& text, std::span<const std::int32_t> tokens);

std::string loss_text(const LabelLoss& loss);
nlohmann::ordered_json loss_json(const LabelLoss& loss);

// A line per layer.
std::string load_text(const ExpertLoad& load);
nlohmann::ordered_json load_json(const ExpertLoad& load);

struct PerplexityFlags {
  std::string file;
  std::int64_t stride = 0;
  bool json = false;
};

// Opens a model and prints the perplexity of a file's text, in windows of --ctx tokens, with a progress bar. Returns
// the exit code.
int print_perplexity(const EngineFlags& engine_flags, const PerplexityFlags& flags);

}  // namespace millrace
