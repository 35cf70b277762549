// generation_config.json: the sampling a checkpoint's makers recommend. An absent file gives the defaults below.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
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

// `text` is a generation_config.json; messages call it `file_name`. A do_sample that is false means temperature 0,
// unless the file also sets a temperature. Throws Error: bad_file (no JSON), bad_config naming the key.
GenerationConfig parse_generation_config(std::string_view text, std::string_view file_name);

// Reads `folder`/generation_config.json; without that file, the defaults.
GenerationConfig read_generation_config(const std::filesystem::path& folder);

}  // namespace millrace
