// Configurations for the tests: files of tests/golden and changed copies of them.
#pragma once

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace millrace {

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " is not there");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The bytes of `path` below tests/golden.
inline std::string golden_text(const std::string& path) {
  return file_text(std::string(MILLRACE_GOLDEN_DIR) + "/" + path);
}

// golden/configs/mimo-<name>.json with the keys of `changes` replaced, and dropped where the change is null.
inline std::string mimo_config(const std::string& name, const char* changes = "{}") {
  nlohmann::json config = nlohmann::json::parse(golden_text("configs/mimo-" + name + ".json"));
  config.merge_patch(nlohmann::json::parse(changes));
  return config.dump();
}

}  // namespace millrace
