// Every broken folder of tests/golden/bad is refused by the engine with an error that says what is wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/engine.h"
#include "runtime/error.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

const std::string bad = test::golden_dir() + "/bad/";

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string error_of(const std::string& folder, const EngineOptions& options) {
  try {
    Engine::open(folder, options)->tokenizer();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(BadFolders, EachIsRefusedWithAClearError) {
  std::ifstream file(bad + "bad.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  int seen = 0;
  for (const auto& entry : cases) {
    if (entry["stage"] == "safetensors") continue;  // single files: tests/loader
    ++seen;
    for (Numerics numerics : {Numerics::fast, Numerics::f32}) {
      const std::string path = entry["path"];
      const std::string error = lower(error_of(bad + path, {.threads = 1, .numerics = numerics}));
      for (const auto& word : entry["must_mention"])
        EXPECT_NE(error.find(lower(word)), std::string::npos) << path << ": '" << error << "' lacks " << word;
    }
  }
  EXPECT_GE(seen, 30);
}

TEST(BadFolders, TheGoodOneOpens) {
  EXPECT_NO_THROW(Engine::open(bad + "good", {.threads = 1}));
}

TEST(BadFolders, ImpossibleOptions) {
  for (const EngineOptions& options :
       {EngineOptions{.threads = -1}, EngineOptions{.threads = 10000}, EngineOptions{.threads = 1, .context = -1},
        EngineOptions{.threads = 1, .context = 1 << 30}, EngineOptions{.threads = 1, .chunk = -1},
        EngineOptions{.threads = 1, .window = -1}})
    EXPECT_THROW(Engine::open(bad + "good", options), Error);
  const std::string all_full = test::golden_dir() + "/models/minimax-odd";
  EXPECT_NE(error_of(all_full, {.threads = 1, .window = 5}).find("has no sliding layers"), std::string::npos);
}

}  // namespace
}  // namespace millrace
