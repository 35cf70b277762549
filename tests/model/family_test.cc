#include "model/family.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "runtime/error.h"
#include "tests/model/config_text.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What reading `text` as a config.json fails with.
std::string error_of(const std::string& text) {
  try {
    family_of(text, "config.json").parse_config(text, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

TEST(Family, IsFoundByEitherName) {
  EXPECT_EQ(family_of(mimo_config("basic"), "config.json").name, "mimo_v2_flash");
  EXPECT_EQ(family_of(mimo_config("fused-qkv"), "config.json").name, "mimo_v2_flash");
  EXPECT_EQ(family_of(R"({"model_type": "mimo_v2"})", "config.json").name, "mimo_v2_flash");
  EXPECT_EQ(family_of(R"({"architectures": ["MiMoV2ForCausalLM"]})", "config.json").name, "mimo_v2_flash");
  EXPECT_EQ(family_of(R"({"architectures": ["MiniMaxM2ForCausalLM"]})", "config.json").name, "minimax_m2");
  EXPECT_EQ(family_of(R"({"model_type": "minimax_m2"})", "config.json").name, "minimax_m2");
}

TEST(Family, UnknownNamesAreQuoted) {
  EXPECT_THAT(error_of(R"({"architectures": ["MiMoV2ForCausalLM"], "model_type": "llama"})"),
              AllOf(HasSubstr("MiMoV2ForCausalLM"), HasSubstr("llama")));
  EXPECT_THAT(error_of(R"({"architectures": ["MiniMaxM3ForCausalLM"], "model_type": "minimax_m3"})"),
              AllOf(HasSubstr("minimax_m3"), HasSubstr("MiniMaxM2ForCausalLM")));
  EXPECT_THAT(error_of("{}"), HasSubstr("neither architectures nor model_type"));
  EXPECT_THAT(error_of(R"({"architectures": "MiMoV2ForCausalLM"})"), HasSubstr("expected a list"));
}

// Every broken configuration of golden/bad: the message has the words bad.json asks for.
TEST(Family, BadConfigurations) {
  int seen = 0;
  for (const auto& entry : nlohmann::json::parse(golden_text("bad/bad.json"))) {
    const std::string path = entry["path"];
    if (entry["stage"] != "config" || path == "config-missing") continue;
    const std::string message = lower(error_of(golden_text("bad/" + path + "/config.json")));
    EXPECT_THAT(message, HasSubstr("config.json")) << path;
    for (const std::string word : entry["must_mention"]) EXPECT_THAT(message, HasSubstr(lower(word))) << path;
    ++seen;
  }
  EXPECT_EQ(seen, 16);
  EXPECT_EQ(error_of(golden_text("bad/good/config.json")), "no error");
}

TEST(Family, RandomBytes) {
  std::mt19937 random(7);
  std::string text(10'000'000, '\0');
  for (char& c : text) c = static_cast<char>(random());
  EXPECT_THAT(error_of(text), AllOf(HasSubstr("config.json"), HasSubstr("JSON")));
  EXPECT_THAT(error_of(""), HasSubstr("config.json"));
}

TEST(Family, DeepNesting) {
  const std::string brackets(1'000'000, '[');
  EXPECT_THAT(error_of(brackets), HasSubstr("config.json"));
  EXPECT_THAT(error_of("{\"architectures\": " + brackets), HasSubstr("config.json"));
}

// A damaged configuration is read or refused, never anything else.
TEST(Family, FlippedBytes) {
  const std::string good = mimo_config("yarn");
  std::mt19937 random(8);
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (int flips = 0; flips < 3; ++flips) text[random() % text.size()] = static_cast<char>(random());
    error_of(text);
  }
}

}  // namespace
}  // namespace millrace
