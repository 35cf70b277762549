// The demonstration model against the reference: logits, hidden states and greedy continuations in f32.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "loader/tokenizer.h"
#include "model/engine.h"
#include "model/mtp_layer.h"
#include "model/session.h"
#include "tests/support/paths.h"
#include "tests/support/recorder.h"

namespace millrace {
namespace {

const std::string goldens = test::golden_dir() + "/demo/";

std::unique_ptr<Engine> demo(Numerics numerics) {
  return Engine::open(test::source_dir() + "/apps/demo/millrace-demo",
                      {.threads = 2, .numerics = numerics, .mtp_layers = 3});
}

// The part of logits.safetensors that belongs to one prompt, under the step names of a dump.
test::Golden golden_of(const test::NamedRows& all, const std::string& prompt) {
  const auto ids = [&](const char* name) {
    const auto& values = all.at(prompt + name);
    return std::vector<std::int32_t>(values.begin(), values.end());
  };
  test::Golden golden = {.tokens = ids(".ids"), .positions = {}, .rows = ids(".rows"), .steps = {}};
  for (const auto& [name, step] : {std::pair{".logits", "logits"}, std::pair{".hidden", "layers.7"}}) {
    test::Rows& rows = golden.steps[step];
    rows.values = all.at(prompt + name);
    rows.width = static_cast<std::int64_t>(rows.values.size() / golden.rows.size());
  }
  return golden;
}

TEST(DemoGolden, LogitsInF32) {
  const auto engine = demo(Numerics::f32);
  const test::NamedRows all = test::read_rows(goldens + "logits.safetensors");
  for (const char* prompt : {"prompt0", "prompt1", "prompt2"}) {
    const test::Golden golden = golden_of(all, prompt);
    Session session(*engine);
    test::Recorder recorder;
    session.forward(golden.tokens, {.logits_rows = std::ssize(golden.tokens), .observer = &recorder});
    for (const auto& [name, rows] : golden.steps)
      EXPECT_LE(test::relative_error(golden, name, recorder), 1e-5) << prompt << " " << name;
  }
}

// The prediction layers choose what those of the reference choose.
TEST(DemoGolden, ChoicesOfThePredictionLayersInF32) {
  const auto engine = demo(Numerics::f32);
  const test::NamedRows all = test::read_rows(goldens + "logits.safetensors");
  for (const std::string prompt : {"prompt0", "prompt1", "prompt2"}) {
    const std::vector<std::int32_t> tokens = golden_of(all, prompt).tokens;
    std::vector<std::int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    Session session(*engine);
    test::Recorder recorder;
    session.forward(tokens, {.observer = &recorder});
    for (int index = 0; index < 3; ++index) {
      const auto& hidden = recorder.steps().at("layers.7").values;
      const std::vector<float> logits = mtp_logits(*engine, index, tokens, positions, hidden, nullptr);
      std::vector<float> choices;
      const auto vocab = engine->config().vocab;
      for (auto row = logits.begin(); row != logits.end(); row += vocab)
        choices.push_back(static_cast<float>(std::max_element(row, row + vocab) - row));
      EXPECT_EQ(choices, all.at(fmt::format("{}.mtp{}_argmax", prompt, index))) << prompt << " " << index;
    }
  }
}

TEST(DemoGolden, GreedyContinuationsInF32) {
  const auto engine = demo(Numerics::f32);
  std::ifstream file(goldens + "greedy.json");
  const nlohmann::json greedy = nlohmann::json::parse(file);
  for (const auto& entry : greedy["continuations"]) {
    const auto prompt = engine->tokenizer().encode(entry["prompt"].get<std::string>());
    ASSERT_EQ(prompt, entry["prompt_ids"].get<std::vector<std::int32_t>>());
    Session session(*engine);
    std::span<const float> logits = session.forward(prompt);
    std::vector<std::int32_t> ids;
    while (ids.size() < entry["ids"].size()) {
      ids.push_back(static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      logits = session.forward({&ids.back(), 1});
    }
    EXPECT_EQ(ids, entry["ids"].get<std::vector<std::int32_t>>());
    EXPECT_EQ(engine->tokenizer().decode(ids), entry["text"].get<std::string>());
  }
}

}  // namespace
}  // namespace millrace
