// What a call gives beside the last logits: chosen rows, hidden states, attention probabilities, loads of experts.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <numeric>

#include "model/expert_load.h"
#include "model/session.h"
#include "runtime/error.h"
#include "runtime/step_recorder.h"
#include "tests/support/compare.h"
#include "tests/support/paths.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;
using Tokens = std::vector<std::int32_t>;

std::unique_ptr<Engine> open(const std::string& name, Numerics numerics = Numerics::fast) {
  return Engine::open(test::golden_dir() + "/models/" + name, {.threads = 2, .numerics = numerics, .chunk = 16});
}

Tokens some_tokens(const Engine& engine, std::int64_t count) {
  test::Random random(12);
  Tokens tokens(static_cast<std::size_t>(count));
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random.below(engine.config().vocab));
  return tokens;
}

Floats forward(const Engine& engine, const Tokens& tokens, const ForwardOptions& options) {
  Session session(engine);
  const auto logits = session.forward(tokens, options);
  return {logits.begin(), logits.end()};
}

TEST(Outputs, LogitsOfTheRowsThatAreWanted) {
  const auto engine = open("mimo-basic");
  const Tokens tokens = some_tokens(*engine, 40);
  const auto vocab = static_cast<std::size_t>(engine->config().vocab);
  const Floats all = forward(*engine, tokens, {.logits_rows = LogitsRows::all()});
  ASSERT_EQ(all.size(), 40 * vocab);
  test::expect_same_bits(forward(*engine, tokens, {.logits_rows = LogitsRows::keep(0)}), all, "0 keeps all");
  test::expect_same_bits(forward(*engine, tokens, {.logits_rows = 100}), all, "more than there are");
  EXPECT_TRUE(forward(*engine, tokens, {.logits_rows = LogitsRows::none()}).empty());
  for (std::size_t last : {1u, 7u, 30u})
    test::expect_same_bits(forward(*engine, tokens, {.logits_rows = static_cast<std::int64_t>(last)}),
                           std::span(all).last(last * vocab), "last");
  const std::vector<std::int32_t> rows = {0, 3, 15, 16, 17, 38};
  for (std::int64_t chunk : {0, 1, 5}) {
    const Floats chosen = forward(*engine, tokens, {.logits_rows = LogitsRows::of(rows), .chunk = chunk});
    ASSERT_EQ(chosen.size(), rows.size() * vocab);
    for (std::size_t i = 0; i < rows.size(); ++i)
      test::expect_same_bits(std::span(chosen).subspan(i * vocab, vocab),
                             std::span(all).subspan(static_cast<std::size_t>(rows[i]) * vocab, vocab), "chosen");
  }
}

// A pass has room for the logits of few rows: of many they come in blocks, to the session or to who takes them.
TEST(Outputs, LogitsAreTakenAsTheyAreComputed) {
  for (const char* name : {"mimo-basic", "minimax-basic"}) {
    const std::string folder = test::golden_dir() + "/models/" + name;
    const auto engine = Engine::open(folder, {.threads = 2, .chunk = 200});
    ASSERT_LT(engine->workspace_limits().logits_rows, 100);
    const Tokens tokens = some_tokens(*engine, 150);
    const auto vocab = static_cast<std::size_t>(engine->config().vocab);
    const Floats want = forward(*open(name), tokens, {.logits_rows = LogitsRows::all()});
    test::expect_same_bits(forward(*engine, tokens, {.logits_rows = LogitsRows::all()}), want, "in blocks");
    Session session(*engine);
    Floats taken;
    ForwardOptions options{.logits_rows = 140};
    options.take_logits = [&](std::int64_t first, std::span<const float> logits) {
      EXPECT_EQ(static_cast<std::size_t>(first) * vocab, taken.size());
      taken.insert(taken.end(), logits.begin(), logits.end());
    };
    EXPECT_TRUE(session.forward(tokens, options).empty());
    test::expect_same_bits(taken, std::span(want).last(140 * vocab), "taken");
    options.take_logits = [](std::int64_t first, std::span<const float>) {
      if (first > 0) fail(Errc::io, "no room");
    };
    EXPECT_THROW(session.forward(tokens, options), Error);
    EXPECT_EQ(session.length(), 150) << "what failed left nothing";
    const auto after = session.forward(std::span(tokens).first(1), {.logits_rows = 1});
    const Floats last(after.begin(), after.end());
    Tokens longer = tokens;
    longer.push_back(tokens[0]);
    test::expect_same_bits(last, forward(*engine, longer, {.logits_rows = 1}), "after the failure");
  }
}

// softmax(q k^T) of recorded q and k is what the call hands out, and times v it is what attention gives.
TEST(Outputs, AttentionProbabilities) {
  for (const char* name : {"mimo-basic", "mimo-odd"}) {
    const auto engine = open(name, Numerics::f32);
    const Tokens tokens = some_tokens(*engine, 40);
    for (int layer = 0; layer < static_cast<int>(engine->config().layers.size()); ++layer) {
      const LayerSpec& spec = engine->config().layers[static_cast<std::size_t>(layer)];
      const std::string attention = fmt::format("layers.{}.self_attn.", layer);
      StepRecorder recorder(engine->program(), std::vector<std::string>{attention + "v", attention + "attn"});
      AttentionRecord record;
      record.layers = {layer};
      const Floats logits = forward(*engine, tokens, {.observer = &recorder, .inputs = {.attention = &record}});
      test::expect_same_bits(logits, forward(*engine, tokens, {}), "recording changes nothing");
      ASSERT_EQ(record.probabilities.size(), 1u);
      ASSERT_EQ(record.keys, 40);
      const Floats& p = record.probabilities.at(layer);
      ASSERT_EQ(std::ssize(p), 40 * spec.heads * 40);
      const auto v = recorder.value(attention + "v").as(), attn = recorder.value(attention + "attn").as();
      for (std::int64_t row : {0, 8, 9, 15, 16, 39})
        for (std::int64_t head = 0; head < spec.heads; ++head) {
          const float* weights = p.data() + (row * spec.heads + head) * 40;
          double sum = 0, first = 0;
          for (std::int64_t key = 0; key < 40; ++key) {
            const bool seen = key <= row && (spec.window == 0 || key > row - spec.window);
            EXPECT_EQ(weights[key] != 0, seen) << layer << " " << row << " " << key;
            sum += double{weights[key]};
            const std::int64_t kv = key * spec.kv_heads + head / (spec.heads / spec.kv_heads);
            first += double{weights[key]} * double{v[static_cast<std::size_t>(kv * spec.v_dim)]};
          }
          EXPECT_LT(sum, 1 + 1e-5);
          if (!spec.sinks) {
            EXPECT_NEAR(sum, 1, 1e-5);
          }
          EXPECT_NEAR(first, attn[static_cast<std::size_t>((row * spec.heads + head) * spec.v_dim)], 1e-5);
        }
    }
  }
}

TEST(Outputs, AttentionOfCachedTokensHasTheirColumns) {
  const auto engine = open("mimo-basic");
  const Tokens tokens = some_tokens(*engine, 25);
  AttentionRecord whole, rest;
  forward(*engine, tokens, {.inputs = {.attention = &whole}});
  Session session(*engine);
  session.forward(std::span(tokens).first(20));
  session.forward(std::span(tokens).last(5), {.inputs = {.attention = &rest}});
  ASSERT_EQ(rest.keys, 25);
  ASSERT_EQ(whole.probabilities.size(), engine->config().layers.size());
  for (const auto& [layer, p] : rest.probabilities)
    test::expect_same_bits(p, std::span(whole.probabilities.at(layer)).last(p.size()), "rows 20 to 24");
}

TEST(Outputs, LoadsOfExperts) {
  const auto engine = open("mimo-basic");
  const Tokens tokens = some_tokens(*engine, 40);
  const std::int64_t top_k = engine->config().router.top_k;
  ExpertLoad load(engine->config());
  StepRecorder ids(engine->program(), std::vector<std::string>{"layers.1.mlp.topk_ids"});
  ObserverList both({&load, &ids});
  forward(*engine, tokens, {.observer = &both});
  std::vector<std::int64_t> want(static_cast<std::size_t>(engine->config().router.experts));
  for (std::int32_t id : ids.value("layers.1.mlp.topk_ids").as<std::int32_t>()) ++want[static_cast<std::size_t>(id)];
  EXPECT_EQ(load.counts().at(1), want);
  for (const auto& [layer, counts] : load.counts()) {
    EXPECT_TRUE(engine->config().layers[static_cast<std::size_t>(layer)].moe);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), 40 * top_k);
  }
  ExpertLoad active(engine->config());
  std::vector<std::uint8_t> inactive(40, 0);
  inactive[3] = inactive[20] = 1;
  forward(*engine, tokens, {.observer = &active, .inputs = {.inactive = inactive}});
  for (const auto& [layer, counts] : active.counts())
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), 38 * top_k);
}

}  // namespace
}  // namespace millrace
