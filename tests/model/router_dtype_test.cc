// In what routers multiply: fp32, bf16, or what the configuration says.
#include <gtest/gtest.h>

#include <cmath>

#include "loader/checkpoint.h"
#include "loader/convert.h"
#include "model/fingerprint.h"
#include "model/session.h"
#include "runtime/bfloat16.h"
#include "runtime/step_recorder.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

const std::string folder = test::golden_dir() + "/models/mimo-gate-bf16";  // moe_router_dtype: bfloat16
const std::string layer = "layers.1.";

std::unique_ptr<Engine> open(RouterDtype dtype, Numerics numerics = Numerics::fast) {
  return Engine::open(folder, {.threads = 1, .numerics = numerics, .router_dtype = dtype});
}

struct Traced {
  std::vector<float> x, logits;  // what goes into a router, what comes out
};

Traced trace(const Engine& engine) {
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
  StepRecorder recorder(engine.program(),
                        std::vector<std::string>{layer + "post_attention_layernorm", layer + "mlp.router_logits"});
  Session session(engine);
  session.forward(tokens, {.observer = &recorder});
  const auto floats = [](const RecordedValue& value) {
    return std::vector<float>(value.as().begin(), value.as().end());
  };
  return {floats(recorder.values()[0]), floats(recorder.values()[1])};
}

std::vector<float> gate_weights(const Engine& engine) {
  const StoredTensor stored = engine.checkpoint().find(layer + "mlp.gate.weight");
  std::vector<float> weights(static_cast<std::size_t>(engine.config().router.experts * engine.config().hidden));
  convert_to_f32(stored.entry->dtype, stored.file->read(*stored.entry).data(), std::ssize(weights), weights.data());
  return weights;
}

TEST(RouterDtype, Bf16RoundsOperandsAndLogits) {
  const auto engine = open(RouterDtype::bf16);
  const auto hidden = static_cast<std::size_t>(engine->config().hidden);
  const auto experts = static_cast<std::size_t>(engine->config().router.experts);
  const auto [x, logits] = trace(*engine);
  const std::vector<float> weights = gate_weights(*engine);
  ASSERT_EQ(logits.size(), x.size() / hidden * experts);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    double sum = 0, magnitude = 0;
    for (std::size_t e = 0; e < hidden; ++e) {
      const double term =
          double{round_to_bf16(x[i / experts * hidden + e])} * double{round_to_bf16(weights[i % experts * hidden + e])};
      sum += term;
      magnitude += std::abs(term);
    }
    EXPECT_EQ(logits[i], round_to_bf16(logits[i]));
    // Half a unit of bf16's 8 bits, and of fp32's 24 for each of the sums.
    EXPECT_NEAR(logits[i], sum, std::abs(sum) * 0x1p-8 + static_cast<double>(hidden) * magnitude * 0x1p-24) << i;
  }
}

TEST(RouterDtype, MatchFollowsTheConfiguration) {
  EXPECT_EQ(open(RouterDtype::f32)->config().router.dtype, Dtype::f32);
  EXPECT_EQ(open(RouterDtype::match)->config().router.dtype, Dtype::bf16);
  EXPECT_EQ(trace(*open(RouterDtype::match)).logits, trace(*open(RouterDtype::bf16)).logits);
  EXPECT_NE(trace(*open(RouterDtype::match)).logits, trace(*open(RouterDtype::f32)).logits);
}

// A cache that was filled by the one is not for the other.
TEST(RouterDtype, IsPartOfTheFingerprint) {
  EXPECT_NE(fingerprint_of(*open(RouterDtype::bf16)), fingerprint_of(*open(RouterDtype::f32)));
}

TEST(RouterDtype, ContradictsNumericsThatKeepF32) {
  EXPECT_EQ(test::error_of(Errc::bad_argument, [] { open(RouterDtype::bf16, Numerics::f32); }),
            "a router in bf16, but these numerics keep everything in fp32");
}

}  // namespace
}  // namespace millrace
