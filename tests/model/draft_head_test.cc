// Guesses of models with large vocabularies, whose heads are sketched: text is what it is without guesses.
#include <gtest/gtest.h>

#include <algorithm>

#include "model/generate.h"
#include "model/synthetic.h"
#include "ops/linear_sketch.h"
#include "tests/model/config_text.h"
#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/recorder.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

constexpr std::int64_t vocab = 9000;

class DraftHeadTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = std::make_unique<test::TempFolder>();
    const auto config = changed_config("mimo-basic", R"({"vocab_size": 9000})");
    write_synthetic(synthetic_model({.shape = scratch_->write("config.json", config).string()}), folder(),
                    {.mtp_layers = 2});
  }
  static void TearDownTestSuite() { scratch_.reset(); }
  static std::filesystem::path folder() { return scratch_->path() / "model"; }
  static std::unique_ptr<Engine> open(EngineOptions options = {}) {
    if (options.threads == 0) options.threads = 1;
    options.context = 128;
    options.mtp_layers = 2;
    return Engine::open(folder(), options);
  }

  // The logits of both layers after a prompt, the second of which takes the first one's guess for true.
  static std::vector<float> drafts(const Engine& engine, const test::Tokens& tokens, std::int64_t chunk = 0) {
    Session session(engine);
    session.forward(std::span(tokens).first(tokens.size() - 2), {.chunk = chunk});
    std::vector<float> logits;
    for (int index = 0; index < 2; ++index) {
      const auto of_layer =
          session.drafter()->guess(index, std::span(tokens).first(tokens.size() - 1 + static_cast<std::size_t>(index)));
      logits.insert(logits.end(), of_layer.begin(), of_layer.end());
    }
    return logits;
  }

  static inline std::unique_ptr<test::TempFolder> scratch_;
};

TEST_F(DraftHeadTest, TextIsThatWithoutGuesses) {
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32}) {
    const auto engine = open({.numerics = numerics});
    Session plain(*engine), guessing(*engine);
    test::Random random(1);
    std::int64_t guesses = 0;
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      GenerateOptions options = {.max_tokens = 20, .ignore_eos = true};
      options.sampling = {.temperature = seed % 2 == 0 ? 0.0f : 0.8f, .top_p = 0.95f, .seed = seed};
      if (seed > 3) options.sampling.logit_bias = {{.id = 17, .value = 30}};
      const test::Tokens prompt = test::random_tokens(random, *engine, 9);
      const GenerateResult want = generate(plain, prompt, options, {});
      options.guesses = 2;
      const GenerateResult got = generate(guessing, prompt, options, {});
      EXPECT_EQ(got.ids, want.ids) << seed;
      guesses += got.speculation.layers[0].guesses;
      plain.clear();
      guessing.clear();
    }
    EXPECT_GT(guesses, 50);
  }
}

TEST_F(DraftHeadTest, TheLikeliestTokensHaveTheLayersLogits) {
  const auto engine = open();
  test::Random random(2);
  for (int trial = 0; trial < 5; ++trial) {
    const test::Tokens tokens = test::random_tokens(random, *engine, 12);
    const std::vector<float> got = drafts(*engine, tokens);
    Session session(*engine);
    test::Recorder recorder;
    session.forward(std::span(tokens).first(10), {.observer = &recorder});
    const std::vector<float>& hidden = recorder.steps().at("layers.3").values;
    for (int index = 0; index < 2; ++index) {
      const auto seen = static_cast<std::size_t>(11 + index);
      std::vector<float> states = hidden;
      states.resize(seen * static_cast<std::size_t>(engine->config().hidden));
      test::Tokens positions(seen);
      for (std::size_t i = 0; i < seen; ++i) positions[i] = static_cast<std::int32_t>(i);
      const std::vector<float> all =
          mtp_logits(*engine, index, std::span(tokens).first(seen), positions, states, nullptr);
      const auto want = std::span(all).last(vocab),
                 of_layer = std::span<const float>(got).subspan(static_cast<std::size_t>(index * vocab), vocab);
      std::int64_t same = 0;
      for (std::size_t id = 0; id < vocab; ++id) same += of_layer[id] == want[id] ? 1 : 0;
      EXPECT_EQ(same, vocab / 64) << index;
      EXPECT_EQ(std::max_element(of_layer.begin(), of_layer.end()) - of_layer.begin(),
                std::max_element(want.begin(), want.end()) - want.begin());
    }
  }
}

TEST_F(DraftHeadTest, GuessesAreTheSameWhateverThreadsAndChunks) {
  test::Random random(3);
  const test::Tokens tokens = test::random_tokens(random, *open(), 40);
  const std::vector<float> want = drafts(*open(), tokens);
  for (int threads : {2, 3})
    for (std::int64_t chunk : {1, 7})
      test::expect_same_bits(drafts(*open({.threads = threads}), tokens, chunk), want, "drafts");
}

TEST_F(DraftHeadTest, ThePlanCountsTheSketch) {
  const auto engine = open(), headers = open({.headers_only = true});
  EngineOptions without = {.threads = 1, .context = 128};
  const MemoryPlan plain = Engine::open(folder(), without)->plan();
  EXPECT_EQ(headers->plan().weights.mtp, engine->plan().weights.mtp);
  EXPECT_EQ(plain.weights.head, engine->plan().weights.head);
  EXPECT_EQ(plain.weights.mtp, 0u);
  EXPECT_GT(engine->plan().weights.mtp, sketch_bytes(vocab, engine->config().hidden));
}

}  // namespace
}  // namespace millrace
