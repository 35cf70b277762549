// The loop on the demonstration model; what the model computes is tested elsewhere.
#include "model/generate.h"

#include <gmock/gmock.h>

#include "loader/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

using testing::HasSubstr;

class GenerateTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    engine_ = Engine::open(test::source_dir() + "/apps/demo/millrace-demo", {.threads = 1, .context = 64});
    prompt_ = engine_->tokenizer().encode("The Fox and the Grapes\n\n");
  }
  static void TearDownTestSuite() { engine_.reset(); }

  // Greedy, with the pieces of text joined in text_.
  GenerateResult run(GenerateOptions options) {
    options.sampling.temperature = 0;
    text_.clear();
    Session session(*engine_);
    return generate(session, prompt_, options, [this](std::string_view piece) {
      EXPECT_FALSE(piece.empty());
      text_ += piece;
      return true;
    });
  }

  static inline std::unique_ptr<Engine> engine_;
  static inline std::vector<std::int32_t> prompt_;
  std::string text_;
};

TEST_F(GenerateTest, StreamsTheTextOfItsTokens) {
  const GenerateResult result = run({.max_tokens = 12});
  EXPECT_EQ(result.finish_reason, FinishReason::length);
  EXPECT_EQ(result.ids.size(), 12u);
  EXPECT_EQ(result.timings.passes, 11);
  EXPECT_THAT(result.text, HasSubstr("A famished fox"));
  EXPECT_EQ(result.text, engine_->tokenizer().decode(result.ids));
  EXPECT_EQ(text_, result.text);
}

TEST_F(GenerateTest, NoTokens) {
  const GenerateResult result = run({.max_tokens = 0});
  EXPECT_EQ(result.finish_reason, FinishReason::length);
  EXPECT_TRUE(result.ids.empty());
  EXPECT_EQ(text_, "");
}

TEST_F(GenerateTest, EndsWithAFullContext) {
  const GenerateResult result = run({.max_tokens = 1000, .ignore_eos = true});
  EXPECT_EQ(result.finish_reason, FinishReason::length);
  EXPECT_EQ(prompt_.size() + result.ids.size(), 65u);  // the last token needs no room
}

TEST_F(GenerateTest, EndsBeforeAStopString) {
  GenerateOptions options = {.max_tokens = 40};
  options.stop = {"never", "shed f"};
  const GenerateResult result = run(options);
  EXPECT_EQ(result.finish_reason, FinishReason::stop_string);
  EXPECT_EQ(result.text, "A fami");
  EXPECT_EQ(text_, result.text);
}

TEST_F(GenerateTest, EndsAtAStopToken) {
  const auto chat = engine_->tokenizer().encode("<|im_start|>user\nDo you like tea?<|im_end|><|im_start|>assistant\n");
  GenerateOptions options;
  options.sampling.temperature = 0;
  Session session(*engine_);
  const GenerateResult result = generate(session, chat, options, {});
  ASSERT_EQ(result.finish_reason, FinishReason::stop) << result.text;
  EXPECT_THAT(engine_->stop_ids(), testing::Contains(result.ids.back()));
  EXPECT_EQ(result.text, engine_->tokenizer().decode(std::span(result.ids).first(result.ids.size() - 1), true));

  options.ignore_eos = true;
  Session again(*engine_);
  EXPECT_GT(generate(again, chat, options, {}).ids.size(), result.ids.size());
}

TEST_F(GenerateTest, TheCallerEndsIt) {
  Session session(*engine_);
  int pieces = 0;
  GenerateResult result =
      generate(session, prompt_, {.max_tokens = 40}, [&pieces](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(result.finish_reason, FinishReason::interrupted);
  EXPECT_EQ(pieces, 3);

  int steps = 0;
  const auto interrupted = [&steps] { return ++steps > 500; };
  result = run({.max_tokens = 40, .interrupted = interrupted});
  EXPECT_EQ(result.finish_reason, FinishReason::interrupted);
  EXPECT_EQ(steps, 501);
  EXPECT_EQ(text_, result.text);
}

TEST_F(GenerateTest, TheSeedDecides) {
  GenerateOptions options = {.max_tokens = 20};
  options.sampling.seed = 5;
  std::vector<std::vector<std::int32_t>> drawn;
  for (int i = 0; i < 2; ++i) {
    Session session(*engine_);
    drawn.push_back(generate(session, prompt_, options, {}).ids);
  }
  EXPECT_EQ(drawn[0], drawn[1]);
}

TEST_F(GenerateTest, Refuses) {
  Session session(*engine_);
  const auto error = [&](std::span<const std::int32_t> prompt, const GenerateOptions& options) {
    return test::error_of(Errc::bad_argument, [&] { generate(session, prompt, options, {}); });
  };
  EXPECT_THAT(error({}, {}), HasSubstr("empty"));
  EXPECT_THAT(error(prompt_, {.max_tokens = -1}), HasSubstr("max_tokens is -1"));
  EXPECT_THAT(error(std::vector<std::int32_t>(65, 1), {}), HasSubstr("65 tokens, but the context holds 64"));
  EXPECT_THAT(error(prompt_, {.max_tokens = 0, .sampling = {.temperature = -1}}), HasSubstr("temperature"));
  EXPECT_THAT(error(std::vector<std::int32_t>{-1}, {}), HasSubstr("-1"));
}

TEST_F(GenerateTest, NoStopTokenBeforeTheLeastNumber) {
  const auto chat = engine_->tokenizer().encode("<|im_start|>user\nDo you like tea?<|im_end|><|im_start|>assistant\n");
  const auto ended = [&](std::int64_t least) {
    GenerateOptions options = {.max_tokens = 60, .min_tokens = least};
    options.sampling.temperature = 0;
    Session session(*engine_);
    return generate(session, chat, options, {});
  };
  const GenerateResult free = ended(0);
  ASSERT_EQ(free.finish_reason, FinishReason::stop);
  const std::int64_t count = std::ssize(free.ids) - 1;  // without the stop token
  EXPECT_EQ(ended(count).ids, free.ids);
  const GenerateResult longer = ended(count + 1);
  EXPECT_GT(longer.ids.size(), free.ids.size());
  for (std::size_t i = 0; i <= static_cast<std::size_t>(count); ++i)
    EXPECT_THAT(engine_->stop_ids(), testing::Not(testing::Contains(longer.ids[i]))) << i;
  EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { ended(61); }), HasSubstr("min_tokens is 61"));
}

// A mask that lets one token through at each step writes the text.
TEST_F(GenerateTest, AMaskDecidesWhatCanBeDrawn) {
  const std::vector<std::int32_t> wanted = engine_->tokenizer().encode("Tea, please.");
  GenerateOptions options = {.max_tokens = std::ssize(wanted)};
  options.mask = [&](std::span<const std::int32_t> history, std::span<float> logits) {
    const std::int32_t only = wanted[history.size() - prompt_.size()];
    for (std::size_t id = 0; id < logits.size(); ++id)
      if (id != static_cast<std::size_t>(only)) logits[id] = -std::numeric_limits<float>::infinity();
  };
  EXPECT_EQ(run(options).text, "Tea, please.");

  options.mask = [](auto, std::span<float>) { fail(Errc::bad_argument, "the grammar is broken"); };
  Session session(*engine_);
  const auto broken = [&] { generate(session, prompt_, options, {}); };
  EXPECT_THAT(test::error_of(Errc::bad_argument, broken), HasSubstr("grammar is broken"));
  options.mask = {};
  EXPECT_EQ(std::ssize(generate(session, wanted, options, {}).ids), options.max_tokens);
}

TEST_F(GenerateTest, ABiasForbidsAToken) {
  const GenerateResult plain = run({.max_tokens = 3});
  GenerateOptions options = {.max_tokens = 3};
  options.sampling.logit_bias = {{plain.ids[0], -std::numeric_limits<float>::infinity()}};
  EXPECT_NE(run(options).ids[0], plain.ids[0]);
}

}  // namespace
}  // namespace millrace
