// Speculation changes nothing but the time: the same tokens, and caches as if it had never been.
#include "model/speculation.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "loader/tokenizer.h"
#include "model/generate.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

using testing::HasSubstr;

std::unique_ptr<Engine> open(const std::string& name, EngineOptions options) {
  options.threads = 1;
  options.mtp_layers = 3;
  const std::string demo = test::source_dir() + "/apps/demo/millrace-demo";
  return Engine::open(name == "demo" ? demo : test::golden("models/" + name).string(), options);
}

// What a generation gave, and the logits of two more tokens, which see the caches it left.
struct Outcome {
  GenerateResult result;
  std::vector<std::int32_t> tokens;
  std::vector<float> next;
};

Outcome generated(Session& session, std::span<const std::int32_t> prompt, GenerateOptions options, int guesses) {
  options.guesses = guesses;
  session.clear();
  Outcome outcome;
  outcome.result = generate(session, prompt, options, {});
  outcome.tokens.assign(session.tokens().begin(), session.tokens().end());
  const std::vector<std::int32_t> more = {outcome.result.ids.back(), 7};
  if (session.length() + 2 <= session.engine().context()) {
    const auto logits = session.forward(more, {.logits_rows = 2});
    outcome.next.assign(logits.begin(), logits.end());
  }
  return outcome;
}

void expect_same(const Outcome& got, const Outcome& want, const std::string& what) {
  EXPECT_EQ(got.result.ids, want.result.ids) << what;
  EXPECT_EQ(got.result.text, want.result.text) << what;
  EXPECT_EQ(got.result.finish_reason, want.result.finish_reason) << what;
  EXPECT_EQ(got.tokens, want.tokens) << what;
  test::expect_same_bits(got.next, want.next, what.c_str());
}

std::vector<std::int32_t> random_prompt(std::uint32_t seed, std::int64_t vocab) {
  std::vector<std::int32_t> ids(1 + seed * 5 % 23);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>((seed = seed * 1664525 + 1013904223) % vocab);
  return ids;
}

class SpeculationTest : public testing::TestWithParam<std::tuple<const char*, Numerics>> {
 protected:
  std::unique_ptr<Engine> engine() const {
    return open(std::get<0>(GetParam()), {.numerics = std::get<1>(GetParam()), .context = 256});
  }
};

TEST_P(SpeculationTest, GreedyTokensAndCachesAreThoseWithoutIt) {
  const auto engine = this->engine();
  GenerateOptions options = {.max_tokens = 24, .ignore_eos = true};
  options.sampling.temperature = 0;
  Session plain(*engine), speculating(*engine);
  std::int64_t guesses = 0, accepted = 0;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    options.max_tokens = 8 + seed;
    const auto prompt = random_prompt(seed, engine->config().vocab);
    const Outcome want = generated(plain, prompt, options, 0);
    for (int n : {static_cast<int>(1 + seed % engine->mtp_programs().size()), Speculation::automatic}) {
      const Outcome got = generated(speculating, prompt, options, n);
      expect_same(got, want, fmt::format("prompt {}, {} guesses", seed, n));
      for (const auto& layer : got.result.speculation.layers) {
        guesses += layer.guesses;
        accepted += layer.accepted;
      }
    }
  }
  EXPECT_GT(guesses, 200);
  EXPECT_LT(accepted, guesses);
}

TEST_P(SpeculationTest, SampledTokensAreThoseWithoutIt) {
  const auto engine = this->engine();
  Session plain(*engine), speculating(*engine);
  GenerateOptions options = {.max_tokens = 24, .ignore_eos = true};
  options.sampling = {.temperature = 0.7f, .top_p = 0.95f, .min_p = 0.01f, .top_k = 12, .repetition_penalty = 1.1f};
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    options.sampling.seed = seed;
    const auto prompt = random_prompt(seed, engine->config().vocab);
    expect_same(generated(speculating, prompt, options, static_cast<int>(1 + seed % 2)),
                generated(plain, prompt, options, 0), fmt::format("seed {}", seed));
  }
}

std::string name_of_case(const testing::TestParamInfo<SpeculationTest::ParamType>& chosen) {
  constexpr std::array<const char*, 3> names = {"fast", "hf", "f32"};
  std::string model = std::get<0>(chosen.param);
  std::replace(model.begin(), model.end(), '-', '_');
  return model + "_" + names.at(static_cast<std::size_t>(std::get<1>(chosen.param)));
}

INSTANTIATE_TEST_SUITE_P(Models, SpeculationTest,
                         testing::Combine(testing::Values("mimo-basic", "mimo-sharded", "demo"),
                                          testing::Values(Numerics::fast, Numerics::hf, Numerics::f32)),
                         name_of_case);

TEST(Speculation, GoldenGreedyIds) {
  for (const char* name : {"mimo-basic", "mimo-sharded"})
    for (Numerics numerics : {Numerics::f32, Numerics::hf}) {
      const auto greedy = test::read_json(test::golden("models") / name / "golden/greedy.json");
      const auto ids = greedy["ids"].get<std::vector<std::int32_t>>();
      const auto engine = open(name, {.numerics = numerics});
      GenerateOptions options = {.max_tokens = std::ssize(ids), .ignore_eos = true};
      options.sampling.temperature = 0;
      Session session(*engine);
      for (int guesses : {1, 2})
        EXPECT_EQ(generated(session, greedy["prompt"].get<std::vector<std::int32_t>>(), options, guesses).result.ids,
                  ids);
    }
}

// Expected counts of what follows a prompt: token pairs, by the filtered distributions of the plain model.
std::map<std::vector<std::int32_t>, double> pair_chances(Session& session, std::span<const std::int32_t> prompt,
                                                         int top_k) {
  const auto chances = [&](std::span<const float> logits) {
    std::vector<std::pair<float, std::int32_t>> best;
    for (std::size_t id = 0; id < logits.size(); ++id) best.emplace_back(-logits[id], static_cast<std::int32_t>(id));
    std::sort(best.begin(), best.end());
    std::map<std::int32_t, double> result;
    double sum = 0;
    for (int i = 0; i < top_k; ++i) sum += std::exp(double{best[0].first} - best[static_cast<std::size_t>(i)].first);
    for (int i = 0; i < top_k; ++i) {
      const auto& [logit, id] = best[static_cast<std::size_t>(i)];
      result[id] = std::exp(double{best[0].first} - logit) / sum;
    }
    return result;
  };
  std::map<std::vector<std::int32_t>, double> pairs;
  session.clear();
  const auto first = chances(session.forward(prompt));
  for (const auto& [id, chance] : first) {
    session.truncate(std::ssize(prompt));
    for (const auto& [next, next_chance] : chances(session.forward({&id, 1}))) pairs[{id, next}] = chance * next_chance;
  }
  return pairs;
}

// Counts against chances: cells that expect less than 5 are taken together.
void expect_distribution(std::map<std::vector<std::int32_t>, int>& counts,
                         const std::map<std::vector<std::int32_t>, double>& chances, int draws) {
  double chi_square = 0, rare_expected = 0, rare_count = 0;
  int cells = 0;
  const auto add = [&](double expected, double count) {
    chi_square += (count - expected) * (count - expected) / expected;
    ++cells;
  };
  int seen = 0;
  for (const auto& [pair, chance] : chances) {
    seen += counts[pair];
    if (chance * draws >= 5) {
      add(chance * draws, counts[pair]);
    } else {
      rare_expected += chance * draws;
      rare_count += counts[pair];
    }
  }
  if (rare_expected > 0) add(rare_expected, rare_count);
  EXPECT_EQ(seen, draws) << "pairs that cannot be";
  ASSERT_GE(cells, 6);
  // Wilson and Hilferty: 0.1 % of honest samples exceed it.
  const double freedom = cells - 1, spread = 2 / (9 * freedom);
  EXPECT_LT(chi_square, freedom * std::pow(1 - spread + 3.09 * std::sqrt(spread), 3)) << cells << " cells";
}

// Pairs of sampled tokens, the second of which was guessed, are as frequent as the model says.
TEST(Speculation, SampledTokensHaveTheModelsDistribution) {
  const auto engine = open("demo", {.context = 64});
  Session session(*engine);
  const std::vector<std::int32_t> prompt = engine->tokenizer().encode("One day the old man");
  constexpr int top_k = 4, draws = 1200;
  const auto chances = pair_chances(session, prompt, top_k);
  GenerateOptions options = {.max_tokens = 3, .ignore_eos = true, .guesses = 2};
  options.sampling = {.temperature = 1, .top_k = top_k};
  std::map<std::vector<std::int32_t>, int> counts;
  std::int64_t guesses = 0, accepted = 0;
  for (int seed = 0; seed < draws; ++seed) {
    options.sampling.seed = static_cast<std::uint64_t>(seed);
    session.truncate(std::ssize(prompt) - 1);
    const GenerateResult result = generate(session, std::span(prompt).last(1), options, {});
    ++counts[{result.ids[0], result.ids[1]}];
    guesses += result.speculation.layers[0].guesses;
    accepted += result.speculation.layers[0].accepted;
  }
  EXPECT_GE(guesses, draws - 1);
  EXPECT_GT(accepted, draws / 20);
  EXPECT_LT(accepted, guesses - draws / 20);
  expect_distribution(counts, chances, draws);
}

class SpeculativeTextTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    engine_ = open("demo", {.context = 96});
    prompt_ = engine_->tokenizer().encode("The Fox and the Grapes\n\n");
  }
  static void TearDownTestSuite() { engine_.reset(); }

  // With three guesses, which come true on this text, and without.
  GenerateResult expect_same_end(GenerateOptions options) {
    options.sampling.temperature = 0;
    Session plain(*engine_), speculating(*engine_);
    generated(speculating, prompt_, {.max_tokens = 3}, 1);
    const Outcome want = generated(plain, prompt_, options, 0), got = generated(speculating, prompt_, options, 3);
    expect_same(got, want, "end");
    if (want.result.ids.size() > 4) {
      EXPECT_LT(got.result.timings.passes, want.result.timings.passes);
    }
    return want.result;
  }

  static inline std::unique_ptr<Engine> engine_;
  static inline std::vector<std::int32_t> prompt_;
};

TEST_F(SpeculativeTextTest, EndsInsideAnAcceptedRunAsWithout) {
  for (std::int64_t tokens = 1; tokens <= 12; ++tokens)
    EXPECT_EQ(expect_same_end({.max_tokens = tokens}).finish_reason, FinishReason::length);
  for (const char* stop : {"shed f", "fox", " saw", "hanging"})
    EXPECT_EQ(expect_same_end({.max_tokens = 40, .stop = {stop}}).finish_reason, FinishReason::stop_string) << stop;
  EXPECT_EQ(expect_same_end({.max_tokens = 1000, .ignore_eos = true}).ids.size(), 97 - prompt_.size());
}

TEST_F(SpeculativeTextTest, EndsAtAStopTokenAsWithout) {
  const auto fable = std::exchange(
      prompt_, engine_->tokenizer().encode("<|im_start|>user\nDo you like tea?<|im_end|><|im_start|>assistant\n"));
  EXPECT_EQ(expect_same_end({.max_tokens = 70}).finish_reason, FinishReason::stop);
  prompt_ = fable;
}

TEST_F(SpeculativeTextTest, AnInterruptionLeavesTheSessionUsable) {
  GenerateOptions options = {.max_tokens = 30};
  options.sampling.temperature = 0;
  Session session(*engine_);
  const Outcome want = generated(session, prompt_, options, 0);
  int steps = 0, limit = 0;
  options.interrupted = [&] { return ++steps > limit; };
  options.guesses = 3;
  for (limit = 200; limit < 900; limit += 97) {
    steps = 0;
    session.clear();
    const GenerateResult result = generate(session, prompt_, options, {});
    EXPECT_EQ(result.finish_reason, FinishReason::interrupted);
    EXPECT_EQ(session.length(), std::ssize(prompt_) + std::max<std::int64_t>(std::ssize(result.ids) - 1, 0));
    EXPECT_TRUE(std::equal(result.ids.begin(), result.ids.end(), want.result.ids.begin()));
  }
  options.interrupted = {};
  expect_same(generated(session, prompt_, options, 3), want, "after interruptions");
}

TEST_F(SpeculativeTextTest, TheCallerMayThrow) {
  GenerateOptions options = {.max_tokens = 30, .guesses = 3};
  options.sampling.temperature = 0;
  Session session(*engine_);
  int pieces = 0;
  const auto throwing = [&](std::string_view) -> bool {
    return ++pieces < 9 || (throw std::runtime_error("enough"), true);
  };
  EXPECT_THROW(generate(session, prompt_, options, throwing), std::runtime_error);
  const std::vector<std::int32_t> held(session.tokens().begin(), session.tokens().end());
  const Outcome want = generated(session, prompt_, options, 0);
  EXPECT_GT(held.size(), prompt_.size());
  EXPECT_TRUE(std::equal(held.begin(), held.end(), want.tokens.begin()));
  expect_same(generated(session, prompt_, options, 3), want, "after an exception");
}

TEST_F(SpeculativeTextTest, Statistics) {
  Session session(*engine_);
  GenerateOptions options = {.max_tokens = 30, .ignore_eos = true};
  options.sampling.temperature = 0;
  const SpeculationStats stats = generated(session, prompt_, options, 3).result.speculation;
  ASSERT_EQ(stats.layers.size(), 3u);
  EXPECT_GT(stats.passes, 0);
  EXPECT_LE(stats.layers[0].guesses, stats.passes);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_GT(stats.layers[i].accepted, stats.layers[i].guesses / 2);
    EXPECT_LE(stats.layers[i].accepted, i == 0 ? stats.layers[i].guesses : stats.layers[i - 1].accepted);
  }
  EXPECT_GT(stats.guess_seconds, 0);
  EXPECT_TRUE(stats.saved_seconds);
  EXPECT_EQ(generated(session, prompt_, options, 0).result.speculation.passes, 0);
}

TEST_F(SpeculativeTextTest, ChainedGuessesChangeNothingEither) {
  const auto chained = open("demo", {.context = 96, .mtp_wiring = MtpWiring::chained});
  GenerateOptions options = {.max_tokens = 40, .ignore_eos = true};
  options.sampling.temperature = 0;
  Session plain(*engine_), speculating(*chained);
  const Outcome got = generated(speculating, prompt_, options, 3);
  expect_same(got, generated(plain, prompt_, options, 0), "chained");
  EXPECT_GT(got.result.speculation.layers[0].accepted, 0);
}

TEST_F(SpeculativeTextTest, Refuses) {
  Session session(*engine_);
  for (int guesses : {4, -2})
    EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { generate(session, prompt_, {.guesses = guesses}, {}); }),
                HasSubstr("3 prediction layers"));
}

}  // namespace
}  // namespace millrace
