// generation_config.json: the sampling a checkpoint's makers recommend. An absent file gives the defaults below.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace millrace {

struct GenerationConfig {
  float temperature = 1;
  float top_p = 1;
  float min_p = 0;
  int top_k = 0;  // 0 = off
  float repetition_penalty = 1;
  std::vector<std::int32_t> eos_ids;
};

// Reads `folder`/generation_config.json. Throws Error(bad_config) naming the file and the key.
GenerationConfig read_generation_config(const std::filesystem::path& folder);

}  // namespace millrace
