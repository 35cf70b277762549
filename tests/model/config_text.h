// Configurations for the tests: files of tests/golden and changed copies of them.
#pragma once

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "tests/support/paths.h"

namespace millrace {

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " is not there");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The bytes of `path` below tests/golden.
inline std::string golden_text(const std::string& path) {
  return file_text(test::golden_dir() + "/" + path);
}

// golden/configs/<file>.json with the keys of `changes` replaced, and dropped where the change is null.
inline std::string changed_config(const std::string& file, const char* changes) {
  nlohmann::json config = nlohmann::json::parse(golden_text("configs/" + file + ".json"));
  config.merge_patch(nlohmann::json::parse(changes));
  return config.dump();
}

inline std::string mimo_config(const std::string& name, const char* changes = "{}") {
  return changed_config("mimo-" + name, changes);
}

inline std::string minimax_config(const std::string& name, const char* changes = "{}") {
  return changed_config("minimax-" + name, changes);
}

}  // namespace millrace
