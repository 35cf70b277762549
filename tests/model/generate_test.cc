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
  const GenerateResult result = run({.max_tokens = 40, .stop = {"never", "shed f"}});
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

}  // namespace
}  // namespace millrace
