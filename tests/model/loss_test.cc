#include "model/loss.h"

#include <gmock/gmock.h>

#include <cmath>

#include "model/session.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using Floats = std::vector<float>;
using Tokens = std::vector<std::int32_t>;

TEST(Loss, NegativeLogLikelihood) {
  const Floats logits = {1, 2, 3};
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  for (std::int32_t label = 0; label < 3; ++label)
    EXPECT_NEAR(negative_log_likelihood(logits, label), std::log(sum) - (label + 1), 1e-15);
  EXPECT_NEAR(negative_log_likelihood(Floats{1e30f, 1e30f}, 0), std::log(2.0), 1e-15);
  EXPECT_NEAR(negative_log_likelihood(Floats{-3e38f, 0}, 0), 3e38, 1e32);
  EXPECT_NEAR(negative_log_likelihood(Floats(1000, -7.0f), 5), std::log(1000.0), 1e-12);
  EXPECT_THROW(negative_log_likelihood(logits, 3), Error);
  EXPECT_THROW(negative_log_likelihood(logits, -1), Error);
}

TEST(Loss, MeanAndItsStandardError) {
  LossSum sum;
  EXPECT_EQ(sum.mean(), 0);
  EXPECT_EQ(sum.standard_error(), 0);
  for (double nll : {1.0, 2.0, 3.0, 6.0}) sum.add(nll);
  EXPECT_EQ(sum.tokens(), 4);
  EXPECT_NEAR(sum.mean(), 3, 1e-15);
  EXPECT_NEAR(sum.standard_error(), std::sqrt(14.0 / 3 / 4), 1e-15);
  EXPECT_NEAR(sum.perplexity(), std::exp(3.0), 1e-12);
  EXPECT_NEAR(sum.perplexity_error(), std::exp(3.0) * std::sqrt(14.0 / 3 / 4), 1e-12);
}

TEST(Loss, LabelsAreShiftedAndIgnoredOnesDoNotCount) {
  const Floats logits = {0, 1, 2, 5, 0, 0, 0, 3, 0, 9, 9, 9};  // 4 rows of 3
  const LabelLoss loss = loss_of_labels(logits, Tokens{2, 0, ignored_label, 1}, 3);
  ASSERT_EQ(loss.nll.size(), 3u);
  EXPECT_NEAR(loss.nll[0], negative_log_likelihood(Floats{0, 1, 2}, 0), 1e-15);
  EXPECT_EQ(loss.nll[1], 0);
  EXPECT_NEAR(loss.nll[2], negative_log_likelihood(Floats{0, 3, 0}, 1), 1e-15);
  EXPECT_EQ(loss.sum.tokens(), 2);
  EXPECT_NEAR(loss.sum.mean(), (loss.nll[0] + loss.nll[2]) / 2, 1e-15);
  EXPECT_THROW(loss_of_labels(logits, Tokens{0, 1, 2}, 3), Error);
  EXPECT_THROW(loss_of_labels(logits, Tokens{0, 1, 2, 3}, 3), Error);
  EXPECT_THROW(loss_of_labels({}, {}, 3), Error);
}

// Every token once, each window by itself, compared with whole passes.
TEST(Loss, PerplexityOfWindows) {
  const auto engine = Engine::open(test::golden_dir() + "/models/mimo-basic", {.threads = 2});
  test::Random random(13);
  Tokens tokens(150);
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random.below(engine->config().vocab));
  const std::int64_t vocab = engine->config().vocab;
  for (const auto& [window, stride] : {std::pair{200, 100}, {150, 1}, {40, 20}, {64, 63}, {30, 7}}) {
    LossSum want;
    std::int64_t predicted = 1;
    for (std::int64_t first = 0; predicted < 150; first += stride) {
      const std::int64_t end = std::min<std::int64_t>(150, first + window);
      Session session(*engine);
      const auto logits = session.forward(
          std::span(tokens).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(end - first)),
          {.logits_rows = LogitsRows::all()});
      for (; predicted < end; ++predicted)
        want.add(negative_log_likelihood(
            logits.subspan(static_cast<std::size_t>((predicted - 1 - first) * vocab), static_cast<std::size_t>(vocab)),
            tokens[static_cast<std::size_t>(predicted)]));
    }
    std::int64_t done = 0, total = 0;
    const Perplexity got =
        perplexity(*engine, tokens, {.window = window, .stride = stride, .progress = [&](auto d, auto t) {
                                       EXPECT_GT(d, done);
                                       done = d;
                                       total = t;
                                     }});
    EXPECT_EQ(got.loss.tokens(), 149);
    EXPECT_EQ(got.loss.mean(), want.mean()) << window << " " << stride;
    EXPECT_EQ(got.loss.standard_error(), want.standard_error());
    EXPECT_EQ(done, total);
  }
}

TEST(Loss, ImpossibleWindows) {
  const auto engine = Engine::open(test::golden_dir() + "/models/mimo-basic", {.context = 50});
  const auto error = [&](Tokens tokens, const PerplexityOptions& options) {
    return test::error_of(Errc::bad_argument, [&] { perplexity(*engine, tokens, options); });
  };
  EXPECT_THAT(error({1}, {}), HasSubstr("of 1 tokens"));
  EXPECT_THAT(error({1, 2}, {.window = 51}), HasSubstr("window of 51 tokens, expected 2 to 50"));
  EXPECT_THAT(error({1, 2}, {.window = 1}), HasSubstr("window of 1"));
  EXPECT_THAT(error({1, 2}, {.window = 10, .stride = 10}), HasSubstr("stride of 10 tokens, expected 1 to 9"));
  EXPECT_THAT(error({1, -2}, {}), HasSubstr("-2"));
}

}  // namespace
}  // namespace millrace
