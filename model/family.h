// Family: what distinguishes one model family from another, and the explicit list of those this build knows.
// Immutable data, safe from any thread.
#pragma once

#include <span>
#include <string_view>

#include "model/blocks.h"
#include "model/config.h"
#include "model/tool_format.h"

namespace millrace {

class Checkpoint;
class ConfigReader;

struct Family {
  std::string_view name;
  std::span<const std::string_view> architectures;  // what `architectures` of config.json may name first
  std::span<const std::string_view> model_types;    // what `model_type` may be
  std::span<const std::string_view> stop_tokens;    // that end a generation, whatever the checkpoint's files say
  const ToolFormat* tool_format;                    // how it writes reasoning and tool calls
  ModelConfig (*parse_config)(std::string_view text, std::string_view file_name);
  void (*build)(BuildContext& build);
  // Appends multi-token-prediction layer `index`, which reads the hidden states of the main model from an input of its
  // Program; null for a family without such layers.
  void (*build_mtp)(BuildContext& build, int index) = nullptr;
  // Whether the files hold this family's model whatever config.json calls it; null where that cannot be told.
  bool (*recognizes)(const ConfigReader& config, const Checkpoint& checkpoint) = nullptr;
};

std::span<const Family* const> families();

// Whether the family goes by both names; one of them may be empty.
bool is_named(const Family& family, std::string_view architecture, std::string_view model_type);

// The family a config.json names by its first architecture and its model_type, or the one that recognizes its tensors
// in `checkpoint`, if that is given. Messages call the text `file_name`.
// Throws Error: bad_file (no JSON), bad_config for an unknown pair, naming both.
const Family& family_of(std::string_view config_text, std::string_view file_name,
                        const Checkpoint* checkpoint = nullptr);

}  // namespace millrace
