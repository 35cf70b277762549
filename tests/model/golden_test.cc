// The model against activations of the reference implementation (tests/golden/README.md says how they were made).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/engine.h"
#include "model/mtp_layer.h"
#include "model/session.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/recorder.h"

namespace millrace {
namespace {

const std::string models = test::golden_dir() + "/models/";

std::unique_ptr<Engine> open(const std::string& name, Numerics numerics, std::int64_t window = 0) {
  return Engine::open(models + name,
                      {.threads = 2, .numerics = numerics, .chunk = 64, .window = window, .mtp_layers = 3});
}

std::int32_t best_id(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// The prediction layers, from what the main model's last layer gave.
void record_mtp(const Engine& engine, const test::Golden& golden, test::Recorder& recorder) {
  const std::vector<float> hidden =
      recorder.steps().at(fmt::format("layers.{}", engine.config().layers.size() - 1)).values;
  for (int index = 0; index < std::ssize(engine.mtp_programs()); ++index)
    mtp_logits(engine, index, golden.tokens, golden.positions, hidden, &recorder);
}

struct Outcome {
  std::size_t steps = 0;
  double worst = 0, logits = 0;
  std::string worst_step;
};

// One pass over the golden's tokens, each step within `bound` of its largest element, the same experts chosen.
Outcome compare(const Engine& engine, const std::string& path, double bound) {
  const test::Golden golden = test::read_golden(path);
  Session session(engine);
  test::Recorder recorder;
  session.forward(golden.tokens,
                  {.positions = golden.positions, .logits_rows = std::ssize(golden.tokens), .observer = &recorder});
  record_mtp(engine, golden, recorder);
  Outcome outcome;
  for (const auto& [name, rows] : golden.steps) {
    const double error = test::relative_error(golden, name, recorder);
    EXPECT_LE(error, name.ends_with("topk_ids") ? 0 : bound) << path << " " << name;
    if (error >= outcome.worst) {
      outcome.worst = error;
      outcome.worst_step = name;
    }
    if (name == "logits") outcome.logits = error;
    ++outcome.steps;
  }
  return outcome;
}

void expect_greedy_ids(const Engine& engine, const std::string& name) {
  std::ifstream file(models + name + "/golden/greedy.json");
  const nlohmann::json greedy = nlohmann::json::parse(file);
  Session session(engine);
  std::span<const float> logits = session.forward(greedy["prompt"].get<std::vector<std::int32_t>>());
  std::vector<std::int32_t> ids;
  while (ids.size() < greedy["ids"].size()) {
    ids.push_back(best_id(logits));
    logits = session.forward({&ids.back(), 1});
  }
  EXPECT_EQ(ids, greedy["ids"].get<std::vector<std::int32_t>>()) << name;
}

void print(const std::string& name, const char* recipe, const Outcome& outcome) {
  std::printf("%-16s %-5s %3zu steps, worst %.1e (%s), logits %.1e\n", name.c_str(), recipe, outcome.steps,
              outcome.worst, outcome.worst_step.c_str(), outcome.logits);
}

class ModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(ModelGolden, F32) {
  const auto engine = open(GetParam(), Numerics::f32);
  print(GetParam(), "f32", compare(*engine, models + GetParam() + "/golden/f32.safetensors", 1e-5));
  expect_greedy_ids(*engine, GetParam());
}

TEST_P(ModelGolden, Hf) {
  const auto engine = open(GetParam(), Numerics::hf);
  print(GetParam(), "hf", compare(*engine, models + GetParam() + "/golden/bf16.safetensors", 2e-2));
  expect_greedy_ids(*engine, GetParam());
}

std::string test_name(const testing::TestParamInfo<std::string>& chosen) {
  std::string name = chosen.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(MiMoV2Flash, ModelGolden,
                         testing::Values("mimo-basic", "mimo-fused-qkv", "mimo-gate-bf16", "mimo-groups", "mimo-mxfp4",
                                         "mimo-odd", "mimo-segmented", "mimo-sharded", "mimo-t5", "mimo-yarn"),
                         test_name);
INSTANTIATE_TEST_SUITE_P(MiniMaxM2, ModelGolden, testing::Values("minimax-basic", "minimax-odd", "minimax-t5"),
                         test_name);

// Activations quantized, on the rows that the reference's own tests call stable: elsewhere the last bit of an input may
// move a code, and with it the rest of the row.
class W8a8Golden : public testing::TestWithParam<std::string> {};

TEST_P(W8a8Golden, StableRows) {
  const auto engine = open(GetParam(), Numerics::w8a8);
  print(GetParam(), "w8a8", compare(*engine, models + GetParam() + "/golden/w8a8.safetensors", 1e-4));
}

INSTANTIATE_TEST_SUITE_P(MiMoV2Flash, W8a8Golden,
                         testing::Values("mimo-basic", "mimo-fused-qkv", "mimo-gate-bf16", "mimo-mxfp4", "mimo-odd",
                                         "mimo-segmented", "mimo-sharded"),
                         test_name);
INSTANTIATE_TEST_SUITE_P(MiniMaxM2, W8a8Golden, testing::Values("minimax-basic"), test_name);

TEST(ModelGoldenVariants, W8a8WithoutFp8WeightsIsRefused) {
  for (Numerics numerics : {Numerics::w8a8, Numerics::w8a8_bf16})
    EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { open("mimo-groups", numerics); }),
                testing::HasSubstr("no tensor here is F8_E4M3"));
}

class BasicGolden : public testing::TestWithParam<std::string> {};

TEST_P(BasicGolden, FarPositions) {
  compare(*open(GetParam(), Numerics::f32), models + GetParam() + "/golden/positions.safetensors", 1e-5);
}

TEST_P(BasicGolden, CachedCalls) {
  const auto engine = open(GetParam(), Numerics::f32);
  const test::Golden golden = test::read_golden(models + GetParam() + "/golden/chunked.safetensors");
  Session session(*engine);
  test::Recorder recorder;
  std::size_t done = 0;
  for (std::size_t rows : {1u, 7u, 20u, 12u}) {
    session.forward(std::span(golden.tokens).subspan(done, rows),
                    {.logits_rows = static_cast<std::int64_t>(rows), .observer = &recorder});
    done += rows;
  }
  EXPECT_LE(test::relative_error(golden, "logits", recorder), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Families, BasicGolden, testing::Values("mimo-basic", "minimax-basic"), test_name);

TEST(ModelGoldenVariants, OneVisibleKeyLess) {
  compare(*open("mimo-basic", Numerics::f32, 8), models + "mimo-basic/golden/window8.safetensors", 1e-5);
}

}  // namespace
}  // namespace millrace
