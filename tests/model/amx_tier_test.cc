// Whole models on the amx tier: on the processor's tiles in model_tests, on emulated ones in tiles_tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/engine.h"
#include "model/session.h"
#include "tests/support/compare.h"
#include "tests/support/paths.h"
#include "tests/support/tiers.h"

namespace millrace {
namespace {

struct Way {
  Isa isa = Isa::amx;
  int threads = 1;
  std::int64_t chunk = 512;
  std::optional<WeightFormat> weights = {};
};

// Logits of 83 tokens.
std::vector<float> all_logits(const std::string& model, Numerics numerics, const Way& way) {
  const test::WithIsa with(way.isa);
  const auto engine = Engine::open(test::golden_dir() + "/models/" + model,
                                   {.threads = way.threads, .numerics = numerics, .weights = way.weights});
  std::vector<std::int32_t> ids(83);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>((i * i * 31 + i * 7 + 3) % static_cast<std::size_t>(engine->config().vocab));
  Session session(*engine);
  const auto logits = session.forward(ids, {.logits_rows = std::ssize(ids), .chunk = way.chunk});
  return {logits.begin(), logits.end()};
}

class AmxTier : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!isa_supported(Isa::amx)) GTEST_SKIP() << "this machine has no amx tier";
  }
};

TEST_P(AmxTier, SameBitsWhateverThreadsChunksAndWeights) {
  const std::vector<float> want = all_logits(GetParam(), Numerics::fast, {});
  test::expect_same_bits(all_logits(GetParam(), Numerics::fast, {.threads = 3}), want, "threads");
  for (std::int64_t chunk : {1, 64})
    test::expect_same_bits(all_logits(GetParam(), Numerics::fast, {.threads = 2, .chunk = chunk}), want, "chunk");
  for (WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8})
    test::expect_same_bits(all_logits(GetParam(), Numerics::fast, {.weights = format}), want, "weights");
}

// Only the order of sums differs in `fast`, which moves roundings to bf16 here and there; elsewhere nothing does.
TEST_P(AmxTier, AgreesWithTheTierBelow) {
  const Way below{.isa = Isa::avx512bf16};
  const std::vector<float> tiles = all_logits(GetParam(), Numerics::fast, {});
  const std::vector<float> lanes = all_logits(GetParam(), Numerics::fast, below);
  ASSERT_EQ(tiles.size(), lanes.size());
  double difference = 0, magnitude = 0;
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    difference += std::pow(tiles[i] - lanes[i], 2);
    magnitude += std::pow(lanes[i], 2);
  }
  EXPECT_GT(difference, 0) << "tiles were not used";
  EXPECT_LT(std::sqrt(difference / magnitude), test::bf16_unit);
  for (Numerics numerics : {Numerics::hf, Numerics::f32})
    test::expect_same_bits(all_logits(GetParam(), numerics, {.chunk = 7}), all_logits(GetParam(), numerics, below),
                           "other numerics");
}

std::string name_of_case(const testing::TestParamInfo<const char*>& chosen) {
  std::string name = chosen.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, AmxTier, testing::Values("mimo-basic", "minimax-basic"), name_of_case);

}  // namespace
}  // namespace millrace
