// A session against one that was fed the same tokens and nothing else: what happened in between leaves no trace.
#include "model/session.h"

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

constexpr std::int64_t slack = KvCache::ring_slack;

class SessionTest : public testing::TestWithParam<std::tuple<const char*, Numerics>> {
 protected:
  std::unique_ptr<Engine> open_engine(EngineOptions options = {}) {
    const auto& [model, numerics] = GetParam();
    return open_golden(model, numerics, options);
  }
};

TEST_P(SessionTest, ATruncatedSessionIsOneThatNeverHeldTheRest) {
  const auto engine = open_engine();
  Random random(1);
  Session session(*engine);
  Tokens held;
  // Cuts of all kinds: nothing, speculation, as far as the slack, beyond it, to the start.
  for (std::int64_t cut : {std::int64_t{0}, std::int64_t{1}, std::int64_t{4}, slack, slack + 1, slack + 2,
                           std::int64_t{60}, std::int64_t{1} << 20}) {
    const Tokens more = random_tokens(random, *engine, 40);
    EXPECT_EQ(session.length(), std::ssize(held));
    expect_same_bits(logits_of(session, more), fresh_logits(*engine, held, more), "appended");
    held = joined(held, more);
    held.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, std::ssize(held) - cut)));
    session.truncate(std::ssize(held));
    EXPECT_THAT(session.tokens(), testing::ElementsAreArray(held));
  }
}

TEST_P(SessionTest, RejectedRowsLeaveNoTraceHoweverOften) {
  const auto engine = open_engine();
  Random random(2);
  const Tokens text = random_tokens(random, *engine, 70);
  Session session(*engine), plain(*engine);
  for (std::int64_t at = 0; at < std::ssize(text);) {
    // A pass over some right tokens and some wrong ones, which are taken back.
    const std::int64_t right = std::min(1 + random.below(3), std::ssize(text) - at);
    const Tokens accepted(text.begin() + at, text.begin() + at + right);
    auto logits = logits_of(session, joined(accepted, random_tokens(random, *engine, random.below(9))));
    logits.resize(static_cast<std::size_t>(right * engine->config().vocab));
    expect_same_bits(logits, logits_of(plain, accepted), "accepted rows");
    at += right;
    session.truncate(at);
  }
}

TEST_P(SessionTest, AppendedTokensAreComputedBeforeTheNext) {
  const auto engine = open_engine({.chunk = 16});
  Random random(6);
  const Tokens held = random_tokens(random, *engine, 20), added = random_tokens(random, *engine, 30);
  const Tokens next = random_tokens(random, *engine, 3);
  Session session(*engine);
  session.append(held);
  session.append({});
  session.append(added);
  EXPECT_EQ(session.cache().length(), 0);
  expect_same_bits(logits_of(session, next), fresh_logits(*engine, joined(held, added), next), "after appended ones");
  EXPECT_EQ(session.length(), 53);
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { session.append(Tokens{-1}); }), HasSubstr("token id -1"));
  EXPECT_EQ(session.length(), 53);
}

TEST_P(SessionTest, KeepsWhatBeginsAPrompt) {
  const auto engine = open_engine();
  Session session(*engine);
  session.append(Tokens{1, 2, 3, 4});
  EXPECT_EQ(session.keep_beginning_of(Tokens{1, 2, 3, 4, 5}), 4);
  EXPECT_EQ(session.keep_beginning_of(Tokens{1, 2, 3, 4}), 3);
  EXPECT_EQ(session.keep_beginning_of(Tokens{1, 2, 9, 9, 9}), 2);
  EXPECT_THAT(session.tokens(), testing::ElementsAre(1, 2));
  EXPECT_EQ(session.keep_beginning_of(Tokens{1}), 0);
  EXPECT_EQ(session.keep_beginning_of(Tokens{7, 8}), 0);
}

TEST_P(SessionTest, PositionsGoOnFromTheKeptTokens) {
  const auto engine = open_engine();
  const Tokens tokens = {1, 2, 3, 4, 5};
  Session session(*engine), want(*engine);
  session.forward(tokens, {.positions = std::vector<std::int32_t>{7, 8, 20, 21, 30}});
  session.truncate(3);
  want.forward(Tokens{1, 2, 3}, {.positions = std::vector<std::int32_t>{7, 8, 20}});
  expect_same_bits(logits_of(session, {9, 9}), logits_of(want, {9, 9}), "after a gap");
  EXPECT_THAT(session.positions(), testing::ElementsAre(7, 8, 20, 21, 22));
}

TEST_P(SessionTest, AFailedCallLeavesTheSessionAsItWas) {
  const auto engine = open_engine({.chunk = 16});
  Random random(3);
  for (std::int64_t failing : {1, 5, 16, 40}) {
    Session session(*engine);
    const Tokens held = random_tokens(random, *engine, 33);
    session.forward(held);
    for (const char* step : {"layers.0.self_attn.attn", "norm", "logits"}) {
      FailAt observer(step, failing > 16 ? 2 : 1);
      EXPECT_EQ(error_of(Errc::cancelled,
                         [&] { session.forward(random_tokens(random, *engine, failing), {.observer = &observer}); }),
                std::string("ended at ") + step);
      EXPECT_THAT(session.tokens(), testing::ElementsAreArray(held));
    }
    const Tokens next = random_tokens(random, *engine, 3);
    expect_same_bits(logits_of(session, next), fresh_logits(*engine, held, next), "after failures");
  }
}

// Of models with rings, whose rows may be computed again.
class RingSessionTest : public SessionTest {};

TEST_P(RingSessionTest, AFailureWhileRowsAreComputedAgain) {
  const auto engine = open_engine({.chunk = 16});
  Random random(4);
  Session session(*engine);
  ASSERT_TRUE(session.cache().has_rings());
  Tokens held = random_tokens(random, *engine, 90);
  session.forward(held);
  held.resize(50);
  session.truncate(50);
  const Tokens next = random_tokens(random, *engine, 20);
  for (int passes : {1, 3, 4}) {
    FailAt observer("logits", passes);
    error_of(Errc::cancelled, [&] { session.forward(next, {.observer = &observer}); });
    EXPECT_THAT(session.tokens(), testing::ElementsAreArray(held));
  }
  std::vector<std::int64_t> done;
  session.forward(next, {.progress = [&](std::int64_t rows) { done.push_back(rows); }});
  EXPECT_THAT(done, testing::Contains(20));
  const Tokens last = random_tokens(random, *engine, 2);
  expect_same_bits(logits_of(session, last), fresh_logits(*engine, joined(held, next), last), "in the end");
}

TEST_P(SessionTest, WithoutTheCacheTheBitsAreThoseOfTheCache) {
  const auto engine = open_engine({.chunk = 32});
  Random random(5);
  Session cached(*engine), uncached(*engine);
  for (std::int64_t count : {20, 1, 1, 50, 1}) {
    const Tokens tokens = random_tokens(random, *engine, count);
    expect_same_bits(logits_of(uncached, tokens, {.use_cache = false}), logits_of(cached, tokens), "uncached");
  }
}

TEST_P(SessionTest, ForksShareWhatTheyHoldAndGoTheirOwnWays) {
  const auto engine = open_engine();
  Random random(6);
  Session session(*engine);
  const Tokens prefix = random_tokens(random, *engine, 300);  // more than a page
  session.forward(prefix);
  std::vector<Session> forks;
  for (int i = 0; i < 3; ++i) forks.push_back(session.fork());
  const auto first_page = [](const Session& of) { return of.cache().run_at(0, 0, 1).keys; };
  const auto last_page = [](const Session& of) { return of.cache().run_at(0, 299, 300).keys; };
  ASSERT_EQ(engine->program().kv_layers()[0].window, 0);
  for (const Session& fork : forks) EXPECT_EQ(last_page(fork), last_page(session));

  Tokens held = prefix;
  for (Session* branch : {&session, &forks[0], &forks[1], &forks[2]}) {
    const Tokens first = random_tokens(random, *engine, 9), second = random_tokens(random, *engine, 30);
    expect_same_bits(logits_of(*branch, first), fresh_logits(*engine, prefix, first), "first");
    expect_same_bits(logits_of(*branch, second), fresh_logits(*engine, joined(prefix, first), second), "second");
    EXPECT_EQ(first_page(*branch), first_page(forks[2]));
  }
  EXPECT_NE(last_page(forks[0]), last_page(forks[1]));
  EXPECT_NE(last_page(forks[0]), last_page(session));

  Session of_fork = forks[1].fork();
  of_fork.truncate(299);
  forks[1].clear();
  const Tokens other = random_tokens(random, *engine, 5);
  expect_same_bits(logits_of(forks[1], other), fresh_logits(*engine, {}, other), "cleared");
  Tokens kept = prefix;
  kept.resize(299);
  expect_same_bits(logits_of(of_fork, other), fresh_logits(*engine, kept, other), "fork of a fork");
}

TEST_P(SessionTest, RefusesWrongCuts) {
  const auto engine = open_engine();
  Session session(*engine);
  session.forward(Tokens{1, 2, 3});
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { session.truncate(4); }), HasSubstr("3 tokens cut back to 4"));
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { session.truncate(-1); }), HasSubstr("-1"));
  EXPECT_EQ(session.length(), 3);
}

TEST_P(SessionTest, PositionsEnd) {
  const auto engine = open_engine();
  Session session(*engine);
  const auto last = static_cast<std::int32_t>(engine->config().max_positions - 1);
  session.forward(Tokens{1}, {.positions = std::span(&last, 1)});
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { session.forward(Tokens{1}); }), HasSubstr("positions end at"));
  EXPECT_EQ(session.length(), 1);
}

TEST_P(SessionTest, AnAdoptedSequenceGoesOnAsItsOwn) {
  const auto engine = open_engine();
  Random random(1);
  const Tokens held = random_tokens(random, *engine, 70), more = random_tokens(random, *engine, 3);
  Session computed(*engine), session(*engine);
  computed.forward(held);
  session.forward(Tokens{1, 2});
  session.adopt(held, computed.cache().fork());
  EXPECT_EQ(session.length(), 70);
  expect_same_bits(logits_of(session, more), fresh_logits(*engine, held, more), "adopted");
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { session.adopt(more, computed.cache().fork()); }),
              HasSubstr("70 rows for 3 tokens"));
  EXPECT_THAT(error_of(Errc::bad_argument, [&] { session.adopt({}, KvCache({}, Dtype::bf16, 9)); }),
              HasSubstr("not of this model"));
  EXPECT_EQ(session.length(), 73);
}

std::string name_of_case(const testing::TestParamInfo<SessionTest::ParamType>& chosen) {
  constexpr std::array<const char*, 3> names = {"fast", "hf", "f32"};
  std::string name = std::get<0>(chosen.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name + "_" + names.at(static_cast<std::size_t>(std::get<1>(chosen.param)));
}

INSTANTIATE_TEST_SUITE_P(Families, SessionTest,
                         testing::Combine(testing::Values("mimo-basic", "mimo-odd", "minimax-basic"),
                                          testing::Values(Numerics::fast, Numerics::hf, Numerics::f32)),
                         name_of_case);

INSTANTIATE_TEST_SUITE_P(Families, RingSessionTest,
                         testing::Combine(testing::Values("mimo-basic", "mimo-odd"),
                                          testing::Values(Numerics::fast, Numerics::hf, Numerics::f32)),
                         name_of_case);

}  // namespace
}  // namespace millrace
