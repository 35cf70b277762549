#include "model/mtp_layer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "tests/model/sessions.h"
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

using Flags = std::vector<std::uint8_t>;

// The logits of a prediction layer after a first call with `inputs`; `tokens` may be -1 where embeddings are given.
std::vector<float> logits_after(const Engine& engine, int index, const test::Tokens& tokens,
                                const test::Tokens& positions, const ForwardInputs& inputs) {
  Session session(engine);
  test::Recorder recorder;
  session.forward(inputs.embeddings.data() != nullptr ? test::Tokens() : tokens,
                  {.positions = positions, .observer = &recorder, .inputs = inputs});
  return mtp_logits(engine, index, tokens, positions, recorder.steps().at("layers.3").values, nullptr, inputs);
}

// 30 tokens at the positions from 0.
struct Sequence {
  explicit Sequence(const Engine& engine) {
    test::Random random(12);
    tokens = test::random_tokens(random, engine, 30);
    std::iota(positions.begin(), positions.end(), 0);
  }
  test::Tokens tokens, positions = test::Tokens(30);
};

TEST(MtpLayers, TakeTheNextOfGivenEmbeddings) {
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32}) {
    const auto engine = test::open_golden("mimo-basic", numerics, {.chunk = 8, .mtp_layers = 3});
    const Sequence sequence(*engine);
    Session session(*engine);
    test::Recorder recorder;
    session.forward(sequence.tokens, {.observer = &recorder});
    const std::vector<float>& embeddings = recorder.steps().at("embed_tokens").values;
    const test::Tokens none(30, -1);
    for (int index : {0, 2})
      test::expect_same_bits(logits_after(*engine, index, none, sequence.positions, {.embeddings = embeddings}),
                             logits_after(*engine, index, sequence.tokens, sequence.positions, {}), "embeddings");
  }
}

TEST(MtpLayers, PaddingInFrontChangesNothing) {
  const auto engine = test::open_golden("mimo-basic", Numerics::fast, {.chunk = 8, .mtp_layers = 3});
  const Sequence sequence(*engine);
  const test::Tokens tokens = test::joined(test::Tokens(10, 1), sequence.tokens);
  const test::Tokens positions = test::joined(test::Tokens(10, 0), sequence.positions);
  Flags keep(40, 1);
  std::fill_n(keep.begin(), 10, std::uint8_t{0});
  for (int index : {0, 2}) {
    const std::vector<float> padded = logits_after(*engine, index, tokens, positions, {.padding = keep});
    test::expect_same_bits(std::span(padded).subspan(10 * 200),
                           logits_after(*engine, index, sequence.tokens, sequence.positions, {}), "padding");
  }
}

TEST(MtpLayers, ObeyTheMaskOfSlidingLayers) {
  const auto engine = test::open_golden("mimo-basic", Numerics::fast, {.chunk = 8, .mtp_layers = 1});
  const Sequence sequence(*engine);
  const std::int64_t window = engine->config().mtp_layer.window;
  Flags rule, causal;
  for (std::int64_t i = 0; i < 30; ++i)
    for (std::int64_t j = 0; j < 30; ++j) {
      causal.push_back(j <= i);
      rule.push_back(j <= i && j > i - window);
    }
  const auto masked = [&](const Flags& sliding) {
    const LayerMask mask = {.kind = "sliding_attention", .visible = sliding};
    return logits_after(*engine, 0, sequence.tokens, sequence.positions, {.masks = {&mask, 1}});
  };
  const std::vector<float> plain = logits_after(*engine, 0, sequence.tokens, sequence.positions, {});
  test::expect_same_bits(masked(rule), plain, "the built-in rule");
  const auto wide = test::open_golden("mimo-basic", Numerics::fast, {.chunk = 8, .window = 100, .mtp_layers = 1});
  test::expect_same_bits(masked(causal), logits_after(*wide, 0, sequence.tokens, sequence.positions, {}), "no window");
}

// Two sequences in one list, kept apart by a mask: each as alone, but for the first one's last row, which takes a
// token of the other.
TEST(MtpLayers, PackedSequencesAreAsAlone) {
  const auto engine = test::open_golden("mimo-basic", Numerics::fast, {.window = 100, .mtp_layers = 2});
  const Sequence sequence(*engine);
  test::Tokens positions = sequence.positions;
  std::iota(positions.begin() + 12, positions.end(), 0);
  Flags mask;
  for (int i = 0; i < 30; ++i)
    for (int j = 0; j < 30; ++j) mask.push_back(j <= i && (i < 12) == (j < 12));
  const LayerMask every = {.kind = "", .visible = mask};
  const std::vector<float> packed = logits_after(*engine, 1, sequence.tokens, positions, {.masks = {&every, 1}});
  const test::Tokens first(sequence.tokens.begin(), sequence.tokens.begin() + 12);
  const test::Tokens second(sequence.tokens.begin() + 12, sequence.tokens.end());
  test::expect_same_bits(std::span(packed).first(10 * 200),
                         logits_after(*engine, 1, first, test::Tokens(positions.begin(), positions.begin() + 12), {}),
                         "first");
  test::expect_same_bits(std::span(packed).subspan(12 * 200),
                         logits_after(*engine, 1, second, test::Tokens(positions.begin() + 12, positions.end()), {}),
                         "second");
}

TEST(MtpLayers, ChecksWhatIsGiven) {
  const auto engine = test::open_golden("mimo-basic", Numerics::fast, {.mtp_layers = 1});
  const test::Tokens tokens = {1, 2, 3}, positions = {0, 1, 2};
  const std::vector<float> hidden(3 * 160), few(160);
  const Flags keep(2, 1);
  const auto error = [&](const ForwardInputs& inputs) {
    return test::error_of(Errc::bad_argument,
                          [&] { mtp_logits(*engine, 0, tokens, positions, hidden, nullptr, inputs); });
  };
  EXPECT_THAT(error({.embeddings = few}), HasSubstr("embeddings: 160 values, expected 480"));
  EXPECT_THAT(error({.padding = keep}), HasSubstr("padding mask: 2 values, expected 3"));
}

}  // namespace
}  // namespace millrace
