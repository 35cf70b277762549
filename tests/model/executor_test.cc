// Several sessions in one pass: each result is that of the session alone.
#include "model/executor.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>

#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using namespace test;

class ExecutorTest : public testing::TestWithParam<std::tuple<const char*, Numerics>> {
 protected:
  std::unique_ptr<Engine> open_engine(EngineOptions options = {}) {
    const auto& [model, numerics] = GetParam();
    return open_golden(model, numerics, options);
  }
};

TEST_P(ExecutorTest, SessionsOfAPassDoNotSeeEachOther) {
  const auto engine = open_engine({.chunk = 48});
  const auto executor = std::make_shared<Executor>(*engine);
  Random random(1);
  std::vector<Session> together, alone;
  for (int i = 0; i < 4; ++i) {
    together.emplace_back(executor);
    alone.emplace_back(*engine);
  }
  // New and old sessions, prompts longer than a pass and single rows, in every mixture.
  for (int round = 0; round < 12; ++round) {
    std::vector<Tokens> tokens;
    std::vector<SessionStep> steps;
    for (Session& session : together) {
      const std::int64_t count = random.below(3) > 0 ? 1 : 1 + random.below(70);
      tokens.push_back(random_tokens(random, *engine, count));
      steps.push_back(
          {.session = &session, .tokens = tokens.back(), .options = {.logits_rows = random.below(count + 1)}});
    }
    if (round % 3 == 1) steps.erase(steps.begin() + round % 4);
    std::int64_t done = 0;
    executor->forward(steps, {.chunk = round % 2 == 0 ? 0 : 20, .progress = [&](std::int64_t rows) { done = rows; }});
    std::int64_t total = 0;
    for (const SessionStep& step : steps) {
      const auto index = static_cast<std::size_t>(step.session - together.data());
      expect_same_bits(step.session->logits(), alone[index].forward(step.tokens, step.options), "together");
      EXPECT_THAT(step.session->tokens(), testing::ElementsAreArray(alone[index].tokens()));
      total += std::ssize(step.tokens);
    }
    EXPECT_EQ(done, total);
  }
}

TEST_P(ExecutorTest, APassMayUseFewerThreads) {
  const auto engine = open_engine({.threads = 2});
  const auto executor = std::make_shared<Executor>(*engine);
  const Parallel one(1), three(3);
  Session session(executor);
  const Tokens tokens = {1, 2, 3};
  const SessionStep step = {.session = &session, .tokens = tokens};
  executor->forward(std::span(&step, 1), {.parallel = &one});
  Session alone(*engine);
  expect_same_bits(session.logits(), alone.forward(tokens), "one thread");
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { executor->forward(std::span(&step, 1), {.parallel = &three}); }),
              HasSubstr("3 threads"));
}

TEST_P(ExecutorTest, WhatIsComputedAgainSharesAPassToo) {
  const auto engine = open_engine({.chunk = 64});
  const auto executor = std::make_shared<Executor>(*engine);
  Random random(2);
  Session a(executor), b(executor), c(executor);
  Tokens held = random_tokens(random, *engine, 90);
  a.forward(held);
  b.forward(held);
  a.truncate(40);
  held.resize(40);
  const Tokens next = random_tokens(random, *engine, 3);
  const std::vector<SessionStep> steps = {{&c, next}, {&a, next, {.logits_rows = 3}}, {&b, next, {.use_cache = false}}};
  executor->forward(steps);
  expect_same_bits(a.logits(), fresh_logits(*engine, held, next), "cut back");
  expect_same_bits(logits_of(a, next), fresh_logits(*engine, joined(held, next), next), "and on");
  Session want(*engine);
  want.forward(b.tokens());
  expect_same_bits(b.logits(), want.logits(), "without cache");
}

TEST_P(ExecutorTest, AnErrorSaysWhichRequestAndLeavesAllAsTheyWere) {
  const auto engine = open_engine({.chunk = 32}), other = open_engine();
  const auto executor = std::make_shared<Executor>(*engine);
  Random random(3);
  Session a(executor), b(*engine), stranger(*other);
  const Tokens prefix = random_tokens(random, *engine, 40);
  a.forward(prefix);
  const Tokens good = {1, 2, 3}, bad = {1, -2}, empty = {};
  const auto error = [&](const std::vector<SessionStep>& steps) {
    return error_of(Errc::bad_argument, [&] { executor->forward(steps); });
  };
  EXPECT_EQ(error({}), "a pass over no sessions");
  EXPECT_THAT(error({{&a, good}, {&b, bad}}), HasSubstr("request 1: token id -2"));
  EXPECT_THAT(error({{&a, bad}}), testing::StartsWith("token id -2"));
  EXPECT_THAT(error({{&a, empty}, {&b, good}}), HasSubstr("request 0: a pass over no tokens"));
  EXPECT_THAT(error({{&a, good}, {nullptr, good}}), HasSubstr("request 1: no session"));
  EXPECT_THAT(error({{&a, good}, {&b, good}, {&a, good}}), HasSubstr("request 2: the session of request 0 once more"));
  EXPECT_THAT(error({{&a, good}, {&stranger, good}}), HasSubstr("request 1: a session of another engine"));
  EXPECT_THAT(error({{&a, good}, {&b, good, {.chunk = 3}}}), HasSubstr("request 1: chunk"));

  const Tokens longer = random_tokens(random, *engine, 50);
  const std::vector<SessionStep> steps = {{&a, longer}, {&b, good}};
  for (int pass : {1, 2}) {
    FailAt observer("norm", pass);
    EXPECT_EQ(error_of(Errc::cancelled, [&] { executor->forward(steps, {.observer = &observer}); }), "ended at norm");
    EXPECT_THAT(a.tokens(), testing::ElementsAreArray(prefix));
    EXPECT_EQ(a.cache().length(), 40);  // not lost
    EXPECT_EQ(b.length(), 0);
  }
  executor->forward(steps);
  Session want(*engine);
  want.forward(prefix);
  expect_same_bits(a.logits(), want.forward(longer), "first");
  expect_same_bits(logits_of(b, good), fresh_logits(*engine, good, good), "second");
}

TEST_P(ExecutorTest, ManySessionsDecodeTogether) {
  const auto engine = open_engine();
  const auto executor = std::make_shared<Executor>(*engine);
  Random random(4);
  Session base(executor);
  base.forward(random_tokens(random, *engine, 20));
  std::vector<Session> sessions;
  for (int i = 0; i < 17; ++i) sessions.push_back(base.fork());
  const Tokens tokens = random_tokens(random, *engine, 17);
  std::vector<SessionStep> steps;
  for (std::size_t i = 0; i < 17; ++i) steps.push_back({&sessions[i], std::span(tokens).subspan(i, 1)});
  executor->forward(steps);
  for (std::size_t i = 0; i < 17; ++i) {
    Session alone = base.fork();
    expect_same_bits(sessions[i].logits(), alone.forward(std::span(tokens).subspan(i, 1)), "one of many");
  }
}

std::string name_of_case(const testing::TestParamInfo<ExecutorTest::ParamType>& chosen) {
  constexpr std::array<const char*, 3> names = {"fast", "hf", "f32"};
  std::string name = std::get<0>(chosen.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name + "_" + names.at(static_cast<std::size_t>(std::get<1>(chosen.param)));
}

INSTANTIATE_TEST_SUITE_P(Families, ExecutorTest,
                         testing::Combine(testing::Values("mimo-basic", "mimo-groups", "minimax-odd"),
                                          testing::Values(Numerics::fast, Numerics::hf, Numerics::f32)),
                         name_of_case);

}  // namespace
}  // namespace millrace
