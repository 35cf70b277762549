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
#include "tests/support/agreement.h"
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

// What all tests of this program found, printed at its end: checkpoint by checkpoint, step by step.
class Agreed final : public testing::Environment {
 public:
  static test::Agreement& agreement() {
    static test::Agreement found;
    return found;
  }
  void TearDown() override { std::printf("%s", agreement().tables().c_str()); }
};
const testing::Environment* const agreed = testing::AddGlobalTestEnvironment(new Agreed);

std::string golden_of(const std::string& folder, const std::string& name) {
  return models + folder + "/golden/" + name + ".safetensors";
}

// One pass over the golden's tokens.
test::Recorder record(const Engine& engine, const test::Golden& golden) {
  Session session(engine);
  test::Recorder recorder;
  session.forward(golden.tokens,
                  {.positions = golden.positions, .logits_rows = std::ssize(golden.tokens), .observer = &recorder});
  record_mtp(engine, golden, recorder);
  return recorder;
}

// Each step within `bound` of its largest element, the same experts chosen. `title` is that of the table.
void compare(const Engine& engine, const std::string& title, const std::string& folder, const std::string& name,
             double bound) {
  const test::Golden golden = test::read_golden(golden_of(folder, name));
  const test::Recorder recorder = record(engine, golden);
  bool same_experts = true;
  for (const auto& [step, rows] : golden.steps) {
    const double error = test::relative_error(golden, step, recorder);
    const bool ids = step.ends_with("topk_ids");
    EXPECT_LE(error, ids ? 0 : bound) << folder << " " << name << " " << step;
    same_experts = same_experts && (!ids || error == 0);
    if (!ids) Agreed::agreement().add(title, folder, step, error);
  }
  Agreed::agreement().add_equal(title, folder, "experts chosen", same_experts);
}

void expect_greedy_ids(const Engine& engine, const std::string& title, const std::string& name) {
  std::ifstream file(models + name + "/golden/greedy.json");
  const nlohmann::json greedy = nlohmann::json::parse(file);
  Session session(engine);
  std::span<const float> logits = session.forward(greedy["prompt"].get<std::vector<std::int32_t>>());
  std::vector<std::int32_t> ids;
  while (ids.size() < greedy["ids"].size()) {
    ids.push_back(best_id(logits));
    logits = session.forward({&ids.back(), 1});
  }
  const auto want = greedy["ids"].get<std::vector<std::int32_t>>();
  EXPECT_EQ(ids, want) << name;
  Agreed::agreement().add_equal(title, name, "greedy ids", ids == want);
}

class ModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(ModelGolden, F32) {
  const auto engine = open(GetParam(), Numerics::f32);
  compare(*engine, "f32", GetParam(), "f32", 1e-5);
  expect_greedy_ids(*engine, "f32", GetParam());
}

TEST_P(ModelGolden, Hf) {
  const auto engine = open(GetParam(), Numerics::hf);
  compare(*engine, "hf", GetParam(), "bf16", 2e-2);
  expect_greedy_ids(*engine, "hf", GetParam());
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
  compare(*open(GetParam(), Numerics::w8a8), "w8a8", GetParam(), "w8a8", 1e-4);
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
  compare(*open(GetParam(), Numerics::f32), "f32 from 100000 on", GetParam(), "positions", 1e-5);
}

TEST_P(BasicGolden, CachedCalls) {
  const auto engine = open(GetParam(), Numerics::f32);
  const test::Golden golden = test::read_golden(golden_of(GetParam(), "chunked"));
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

// A rounding around the quantized products could move a code and its row by a few per cent; on these rows none does.
TEST_P(BasicGolden, W8a8AmongBf16) {
  compare(*open(GetParam(), Numerics::w8a8_bf16), "w8a8-bf16", GetParam(), "w8a8-bf16", 5e-2);
}

TEST_P(BasicGolden, W8a8WithPowerOfTwoScales) {
  compare(*open(GetParam(), Numerics::w8a8_ue8m0), "w8a8-ue8m0", GetParam(), "w8a8-ue8m0", 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Families, BasicGolden, testing::Values("mimo-basic", "minimax-basic"), test_name);

TEST(ModelGoldenVariants, OneVisibleKeyLess) {
  compare(*open("mimo-basic", Numerics::f32, 8), "f32, 8 keys", "mimo-basic", "window8", 1e-5);
}

}  // namespace
}  // namespace millrace
