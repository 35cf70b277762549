#include "model/mtp_layer.h"

#include <gmock/gmock.h>

#include <numeric>

#include "model/session.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/recorder.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tensor_file.h"

namespace millrace {
namespace {

using testing::Contains;
using testing::HasSubstr;

const std::filesystem::path models = test::golden_dir() + "/models/";

TEST(MtpLayers, LoadOnlyWhenWanted) {
  const std::string tensor = "model.mtp.layers.2.eh_proj.weight";
  const auto without = Engine::open(models / "mimo-basic", {.threads = 1});
  EXPECT_EQ(without->mtp_layers_in_files(), 3);
  EXPECT_EQ(without->mtp_programs().size(), 0u);
  EXPECT_THAT(without->unused_tensors(), Contains(tensor));

  const auto two = Engine::open(models / "mimo-basic", {.threads = 1, .mtp_layers = 2});
  EXPECT_EQ(two->mtp_programs().size(), 2u);
  EXPECT_THAT(two->unused_tensors(), Contains(tensor));
  EXPECT_GT(two->plan().weights.total(), without->plan().weights.total());

  const auto all = Engine::open(models / "mimo-basic", {.threads = 1, .mtp_layers = 9});
  EXPECT_EQ(all->mtp_programs().size(), 3u);
  EXPECT_THAT(all->unused_tensors(), testing::IsEmpty());

  const auto none = Engine::open(models / "mimo-t5", {.threads = 1, .mtp_layers = 9});
  EXPECT_EQ(none->mtp_layers_in_files(), 0);
  EXPECT_EQ(none->mtp_programs().size(), 0u);
  test::error_of(Errc::bad_argument, [] { Engine::open(models / "mimo-basic", {.mtp_layers = -1}); });
}

TEST(MtpLayers, TheWindowOfSlidingLayersHoldsForThem) {
  const auto engine = Engine::open(models / "mimo-basic", {.threads = 1, .window = 5, .mtp_layers = 1});
  EXPECT_EQ(engine->mtp_programs()[0].kv_layers()[0].window, 5);
}

TEST(MtpLayers, AMissingTensorIsNamed) {
  const test::TempFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(models / "mimo-sharded"))
    if (entry.is_regular_file() && entry.path().filename() != "model_mtp.safetensors")
      std::filesystem::copy(entry.path(), folder.path());
  EXPECT_EQ(Engine::open(folder.path(), {.threads = 1, .mtp_layers = 1})->mtp_programs().size(), 0u);

  const auto stray = folder.path() / "model_mtp.safetensors";
  test::TensorFile().f32("model.mtp.layers.1.enorm.weight", {1}, {1}).write(stray);
  EXPECT_NO_THROW(Engine::open(folder.path(), {.threads = 1}));
  EXPECT_THAT(test::error_of(Errc::not_found, [&] { Engine::open(folder.path(), {.threads = 1, .mtp_layers = 1}); }),
              HasSubstr("model.mtp.layers.0."));
}

TEST(MtpLayers, ChunksDoNotMatter) {
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32}) {
    std::vector<float> want;
    for (std::int64_t chunk : {512, 7, 1}) {
      const auto engine =
          Engine::open(models / "mimo-basic", {.threads = 2, .numerics = numerics, .chunk = chunk, .mtp_layers = 3});
      std::vector<std::int32_t> tokens(40), positions(40);
      std::iota(positions.begin(), positions.end(), 5);
      for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * i * 7 % 200);
      Session session(*engine);
      test::Recorder recorder;
      session.forward(tokens, {.positions = positions, .observer = &recorder});
      const std::vector<float>& hidden = recorder.steps().at("layers.3").values;
      const std::vector<float> logits = mtp_logits(*engine, 2, tokens, positions, hidden, nullptr);
      ASSERT_EQ(logits.size(), 37u * 200);
      if (want.empty()) want = logits;
      test::expect_same_bits(logits, want, "chunk");
    }
  }
}

TEST(MtpLayers, LogitsRefuse) {
  const auto engine = Engine::open(models / "mimo-basic", {.threads = 1, .mtp_layers = 3});
  const std::vector<std::int32_t> tokens = {1, 2, 3}, positions = {0, 1, 2};
  const std::vector<float> hidden(3 * 160);
  EXPECT_EQ(mtp_logits(*engine, 2, tokens, positions, hidden, nullptr).size(), 0u);
  EXPECT_EQ(mtp_logits(*engine, 1, tokens, positions, hidden, nullptr).size(), 200u);
  const auto error = [&](int index, std::span<const std::int32_t> at, std::span<const float> states) {
    return test::error_of(Errc::bad_argument, [&] { mtp_logits(*engine, index, tokens, at, states, nullptr); });
  };
  EXPECT_THAT(error(3, positions, hidden), HasSubstr("prediction layer 3"));
  EXPECT_THAT(error(-1, positions, hidden), HasSubstr("prediction layer -1"));
  EXPECT_THAT(error(0, std::span(positions).first(2), hidden), HasSubstr("2 positions for 3 tokens"));
  EXPECT_THAT(error(0, positions, std::span(hidden).first(7)), HasSubstr("7 hidden values"));
}

}  // namespace
}  // namespace millrace
