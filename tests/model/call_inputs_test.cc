// What a call brings beside token ids: masks, padding, embeddings, inactive rows, forced experts. Each against what the
// built-in rule makes of the same sequence, and every wrong input as a clear error that leaves the session usable.
#include "model/call_inputs.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>

#include "model/session.h"
#include "runtime/step_recorder.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/paths.h"
#include "tests/support/random.h"
#include "tests/support/recorder.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using Floats = std::vector<float>;
using Flags = std::vector<std::uint8_t>;
using Tokens = std::vector<std::int32_t>;

constexpr float inf = std::numeric_limits<float>::infinity();
const std::string models = test::golden_dir() + "/models/";

std::unique_ptr<Engine> open(const std::string& name, Numerics numerics = Numerics::fast, std::int64_t window = 0) {
  return Engine::open(models + name, {.threads = 2, .numerics = numerics, .chunk = 16, .window = window});
}

Tokens some_tokens(const Engine& engine, std::int64_t count) {
  test::Random random(11);
  Tokens tokens(static_cast<std::size_t>(count));
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random.below(engine.config().vocab));
  return tokens;
}

Floats logits(Session& session, const Tokens& tokens, const ForwardInputs& inputs = {},
              std::span<const std::int32_t> positions = {}) {
  const auto got =
      session.forward(tokens, {.positions = positions, .logits_rows = LogitsRows::all(), .inputs = inputs});
  return {got.begin(), got.end()};
}

Floats logits(const Engine& engine, const Tokens& tokens, const ForwardInputs& inputs = {},
              std::span<const std::int32_t> positions = {}) {
  Session session(engine);
  return logits(session, tokens, inputs, positions);
}

// The built-in rule for `rows` new rows after `held`.
Flags rule(std::int64_t held, std::int64_t rows, std::int64_t window) {
  Flags visible;
  for (std::int64_t i = held; i < held + rows; ++i)
    for (std::int64_t j = 0; j < held + rows; ++j) visible.push_back(j <= i && (window == 0 || j > i - window));
  return visible;
}

Floats additive(const Flags& visible, float hidden) {
  Floats mask;
  for (std::uint8_t flag : visible) mask.push_back(flag != 0 ? 0.0f : hidden);
  return mask;
}

std::int64_t window_of(const Engine& engine) {
  std::int64_t window = 0;
  for (const LayerSpec& layer : engine.config().layers) window = std::max(window, layer.window);
  return window;
}

class Inputs : public testing::TestWithParam<const char*> {};

TEST_P(Inputs, MasksOfTheBuiltInRuleGiveTheSameBits) {
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32}) {
    const auto engine = open(GetParam(), numerics);
    const Tokens tokens = some_tokens(*engine, 40);
    const Floats want = logits(*engine, tokens);
    const Flags ones(40, 1), full = rule(0, 40, 0), sliding = rule(0, 40, window_of(*engine));
    test::expect_same_bits(logits(*engine, tokens, {.padding = ones}), want, "2-D");
    std::vector<LayerMask> masks = {{.kind = "full_attention", .visible = full}};
    test::expect_same_bits(logits(*engine, tokens, {.masks = masks}), want, "a missing kind is built in");
    const bool slides = window_of(*engine) > 0;
    if (slides) masks.push_back({.kind = "sliding_window_attention", .visible = sliding});
    test::expect_same_bits(logits(*engine, tokens, {.masks = masks}), want, "4-D flags by kind");
    for (float hidden : {-inf, std::numeric_limits<float>::lowest()}) {
      const Floats full_sum = additive(full, hidden), sliding_sum = additive(sliding, hidden);
      masks = {{.kind = "full_attention", .additive = full_sum}};
      if (slides) masks.push_back({.kind = "sliding_attention", .additive = sliding_sum});
      test::expect_same_bits(logits(*engine, tokens, {.masks = masks}), want, "4-D numbers by kind");
    }
    // One mask for every layer takes the window away too.
    const LayerMask every[] = {{.kind = "", .visible = full}};
    const auto wide = slides ? open(GetParam(), numerics, 1000) : open(GetParam(), numerics);
    test::expect_same_bits(logits(*engine, tokens, {.masks = every}), logits(*wide, tokens), "one 4-D mask");
  }
}

TEST_P(Inputs, MasksAfterCachedTokens) {
  const auto engine = open(GetParam());
  const Tokens tokens = some_tokens(*engine, 30);
  Session plain(*engine), masked(*engine);
  for (Session* session : {&plain, &masked}) session->forward(std::span(tokens).first(22));
  const Flags full = rule(22, 8, 0), sliding = rule(22, 8, window_of(*engine));
  std::vector<LayerMask> masks = {{.kind = "full_attention", .visible = full}};
  if (window_of(*engine) > 0) masks.push_back({.kind = "sliding_attention", .visible = sliding});
  const Tokens rest(tokens.begin() + 22, tokens.end());
  test::expect_same_bits(logits(masked, rest, {.masks = masks}), logits(plain, rest), "rest");
  test::expect_same_bits(logits(masked, {3, 4}), logits(plain, {3, 4}), "afterwards");
}

// Padding in front, hidden from all, at positions of its own: each real row as if it were alone.
TEST_P(Inputs, LeftPaddingChangesNothing) {
  for (Numerics numerics : {Numerics::fast, Numerics::f32}) {
    const auto engine = open(GetParam(), numerics);
    const Tokens tokens = some_tokens(*engine, 30);
    const auto vocab = static_cast<std::size_t>(engine->config().vocab);
    Tokens padded(10, 1), positions(10, 0);
    Flags keep(10, 0);
    for (std::int32_t i = 0; i < 30; ++i) {
      padded.push_back(tokens[static_cast<std::size_t>(i)]);
      positions.push_back(i);
      keep.push_back(1);
    }
    const Floats want = logits(*engine, tokens);
    const Floats got = logits(*engine, padded, {.padding = keep}, positions);
    test::expect_same_bits(std::span(got).subspan(10 * vocab), want, "padded");

    Session session(*engine);  // call by call, with the mask grown each time
    Floats stepwise;
    for (std::size_t begin = 0; begin < 40; begin += 8) {
      const Tokens part(padded.begin() + static_cast<std::ptrdiff_t>(begin),
                        padded.begin() + static_cast<std::ptrdiff_t>(begin + 8));
      const Floats some =
          logits(session, part, {.padding = std::span(keep).first(begin + 8)}, std::span(positions).subspan(begin, 8));
      stepwise.insert(stepwise.end(), some.begin(), some.end());
    }
    test::expect_same_bits(std::span(stepwise).subspan(10 * vocab), want, "call by call");
  }
}

TEST_P(Inputs, EmbeddingsOfTheTokensAreTheTokens) {
  for (Numerics numerics : {Numerics::fast, Numerics::hf}) {
    const auto engine = open(GetParam(), numerics);
    const Tokens tokens = some_tokens(*engine, 20);
    StepRecorder recorder(engine->program(), std::vector<std::string>{"embed_tokens"});
    Session session(*engine);
    const auto computed = session.forward(tokens, {.logits_rows = LogitsRows::all(), .observer = &recorder});
    const Floats want(computed.begin(), computed.end());
    Session other(*engine);
    test::expect_same_bits(logits(other, {}, {.embeddings = recorder.value("embed_tokens").as()}), want, "embeddings");
    EXPECT_THAT(other.tokens(), testing::Each(-1));
    test::expect_same_bits(logits(other, {5}), logits(session, {5}), "a token after them");
  }
}

TEST_P(Inputs, InactiveRowsChangeNoOther) {
  const auto engine = open(GetParam());
  const Tokens tokens = some_tokens(*engine, 20);
  Flags inactive(20, 0);
  for (std::size_t row = 15; row < 20; ++row) inactive[row] = 1;
  const Floats want = logits(*engine, tokens), got = logits(*engine, tokens, {.inactive = inactive});
  const auto active = static_cast<std::size_t>(15 * engine->config().vocab);
  test::expect_same_bits(std::span(got).first(active), std::span(want).first(active), "active rows");
  EXPECT_NE(got.back(), want.back());
}

INSTANTIATE_TEST_SUITE_P(Models, Inputs, testing::Values("mimo-basic", "mimo-odd", "minimax-basic"),
                         [](const auto& chosen) {
                           std::string name = chosen.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class InputsGolden : public testing::TestWithParam<const char*> {};

// The tokens of the f32 golden behind ten of padding: what Transformers computes for them alone.
TEST_P(InputsGolden, LeftPadding) {
  const auto engine = open(GetParam(), Numerics::f32);
  const test::Golden golden = test::read_golden(models + GetParam() + "/golden/f32.safetensors");
  Tokens tokens(10, 0), positions(10, 0);
  Flags keep(10, 0);
  tokens.insert(tokens.end(), golden.tokens.begin(), golden.tokens.end());
  positions.insert(positions.end(), golden.positions.begin(), golden.positions.end());
  keep.resize(tokens.size(), 1);
  Tokens rows;
  for (std::size_t row = 10; row < tokens.size(); ++row) rows.push_back(static_cast<std::int32_t>(row));
  Session session(*engine);
  test::Recorder recorder;
  session.forward(tokens, {.positions = positions,
                           .logits_rows = LogitsRows::of(rows),
                           .observer = &recorder,
                           .inputs = {.padding = keep}});
  EXPECT_LE(test::relative_error(golden, "logits", recorder), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Models, InputsGolden, testing::Values("mimo-basic", "minimax-basic"),
                         [](const auto& chosen) { return chosen.index == 0 ? "mimo" : "minimax"; });

// The reference's choice of experts, replayed: nothing changes, and weights may be given or not.
TEST(Replay, OwnExpertsChangeNothing) {
  for (const char* name : {"mimo-basic", "mimo-groups"}) {
    const auto engine = open(name);
    const Tokens tokens = some_tokens(*engine, 40);
    std::vector<int> layers;
    std::vector<std::string> values;
    for (int layer = 0; layer < static_cast<int>(engine->config().layers.size()); ++layer) {
      if (!engine->config().layers[static_cast<std::size_t>(layer)].moe) continue;
      layers.push_back(layer);
      values.push_back(fmt::format("layers.{}.mlp.topk_ids", layer));
      values.push_back(fmt::format("layers.{}.mlp.topk_weights", layer));
    }
    StepRecorder recorder(engine->program(), values);
    Session session(*engine);
    session.forward(tokens, {.observer = &recorder});
    const Floats want = logits(*engine, tokens);

    std::vector<LayerExperts> experts;
    for (std::size_t i = 0; i < layers.size(); ++i)
      experts.push_back({.layer = layers[i], .ids = recorder.values()[2 * i].as<std::int32_t>()});
    test::expect_same_bits(logits(*engine, tokens, {.experts = experts}), want, "ids");
    for (std::size_t i = 0; i < layers.size(); ++i) experts[i].weights = recorder.values()[2 * i + 1].as();
    test::expect_same_bits(logits(*engine, tokens, {.experts = experts}), want, "ids and weights");

    // In any order within a row; one other expert is another result.
    const auto top_k = static_cast<std::size_t>(engine->config().router.top_k);
    Tokens ids(experts[0].ids.begin(), experts[0].ids.end());
    for (std::size_t row = 0; row < 40; ++row)
      std::reverse(ids.begin() + static_cast<std::ptrdiff_t>(row * top_k),
                   ids.begin() + static_cast<std::ptrdiff_t>((row + 1) * top_k));
    const LayerExperts reversed[] = {{.layer = layers[0], .ids = ids}};
    test::expect_same_bits(logits(*engine, tokens, {.experts = reversed}), want, "in descending order");
    for (std::int32_t id = 0;; ++id)
      if (std::find(ids.end() - static_cast<std::ptrdiff_t>(top_k), ids.end(), id) == ids.end()) {
        ids.back() = id;
        break;
      }
    const auto row = static_cast<std::size_t>(39 * engine->config().vocab);
    const Floats changed = logits(*engine, tokens, {.experts = reversed});
    test::expect_same_bits(std::span(changed).first(row), std::span(want).first(row), "rows before");
    EXPECT_NE(changed.back(), want.back());
  }
}

// Wrong inputs, each with words of its message.
TEST(WrongInputs, AreRefusedAndTheSessionGoesOn) {
  const auto engine = open("mimo-basic");
  const std::int64_t hidden = engine->config().hidden;
  const Tokens tokens = some_tokens(*engine, 6), before = some_tokens(*engine, 20);
  Session session(*engine), plain(*engine);
  for (Session* each : {&session, &plain}) each->forward(before);
  const auto refused = [&](const char* words, const ForwardOptions& options, Tokens ids) {
    EXPECT_THAT(test::error_of(Errc::bad_argument, [&] { session.forward(ids, options); }), HasSubstr(words));
    EXPECT_EQ(session.length(), 20);
  };
  const auto wrong = [&](const char* words, const ForwardInputs& inputs) {
    refused(words, {.inputs = inputs}, inputs.embeddings.data() == nullptr ? tokens : Tokens{});
  };

  Floats rows(static_cast<std::size_t>(2 * hidden), 0.5f);
  refused("6 tokens and embeddings", {.inputs = {.embeddings = rows}}, tokens);
  rows[static_cast<std::size_t>(hidden) + 3] = std::numeric_limits<float>::quiet_NaN();
  wrong("row 1, element 3 is nan", {.embeddings = rows});
  rows[1] = -inf;
  wrong("row 0, element 1 is -inf", {.embeddings = rows});
  wrong(fmt::format("expected rows of {}", hidden).c_str(), {.embeddings = std::span(rows).first(7)});
  wrong("no tokens", {.embeddings = std::span(rows).first(0)});
  refused("no tokens", {}, {});
  refused("token id -1", {}, {-1});
  refused(fmt::format("token id {}", engine->config().vocab).c_str(), {},
          {static_cast<std::int32_t>(engine->config().vocab)});
  refused("position", {.positions = std::vector<std::int32_t>{1 << 30}}, {1});
  refused("2 positions for 1", {.positions = std::vector<std::int32_t>{1, 2}}, {1});
  refused("logits of row 6", {.logits_rows = LogitsRows::of(std::vector<std::int32_t>{0, 6})}, tokens);
  refused("ascending", {.logits_rows = LogitsRows::of(std::vector<std::int32_t>{2, 2})}, tokens);

  const Flags keep(26, 1), two(26, 2), flags = rule(20, 6, 0), wide(26 * 6, 1);
  wrong("expected 26", {.padding = std::span(keep).first(25)});
  wrong("entry 0 is 2", {.padding = two});
  wrong("inactive rows: 26 values, expected 6", {.inactive = keep});
  const auto mask = [&](const char* words, const LayerMask& only) { wrong(words, {.masks = {&only, 1}}); };
  mask("'chunked_attention', expected full_attention or sliding_attention",
       {.kind = "chunked_attention", .visible = flags});
  mask("either flags or numbers", {.kind = "full_attention"});
  mask("expected 156 (6 x 26)", {.kind = "full_attention", .visible = keep});
  mask("window has let go of keys before 11", {.kind = "sliding_attention", .visible = wide});
  Floats numbers = additive(flags, -inf);
  numbers[27] = std::numeric_limits<float>::quiet_NaN();
  mask("row 1, key 1 adds nan", {.kind = "full_attention", .additive = numbers});
  Flags blind = flags;
  std::fill_n(blind.begin() + 3 * 26, 26, std::uint8_t{0});
  mask("row 3 sees no key in the full_attention layers", {.kind = "full_attention", .visible = blind});
  mask("row 3 sees no key in the full_attention layers", {.visible = blind});
  const LayerMask twice[] = {{.kind = "full_attention", .visible = flags}, {.visible = flags}};
  wrong("two masks", {.masks = twice});
  const LayerMask good[] = {{.kind = "full_attention", .visible = flags}};
  refused("one pass, but the chunk is 2", {.chunk = 2, .inputs = {.masks = good}}, tokens);

  const auto top_k = static_cast<std::size_t>(engine->config().router.top_k);
  Tokens ids(6 * top_k);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i % top_k);
  const auto force = [&](const char* words, const LayerExperts& only) { wrong(words, {.experts = {&only, 1}}); };
  force("layer 0, which is no expert layer", {.layer = 0, .ids = ids});
  force("layer 99", {.layer = 99, .ids = ids});
  force("forced experts: ", {.layer = 1, .ids = std::span(ids).first(top_k)});
  ids[top_k] = 10000;
  force("row 1 names expert 10000", {.layer = 1, .ids = ids});
  ids[top_k] = ids[top_k + 1];
  force("twice", {.layer = 1, .ids = ids});
  AttentionRecord record;
  record.layers = {77};
  wrong("layer 77", {.attention = &record});

  test::expect_same_bits(logits(session, tokens), logits(plain, tokens), "afterwards");
}

// Where a sink takes the weight, a row that sees nothing is defined; an inactive or padding row may see nothing
// anywhere.
TEST(WrongInputs, RowsThatSeeNothing) {
  const auto engine = open("mimo-basic");
  const Tokens tokens = some_tokens(*engine, 6);
  Flags blind = rule(0, 6, 0), inactive(6, 0);
  std::fill_n(blind.begin() + 2 * 6, 6, std::uint8_t{0});
  const LayerMask sliding[] = {{.kind = "sliding_attention", .visible = blind}}, all[] = {{.visible = blind}};
  for (float value : logits(*engine, tokens, {.masks = sliding})) ASSERT_TRUE(std::isfinite(value));
  inactive[2] = 1;
  for (float value : logits(*engine, tokens, {.masks = all, .inactive = inactive})) ASSERT_TRUE(std::isfinite(value));
}

// Rows that came with more than tokens cannot be computed again; a cleared session goes on.
TEST(WrongInputs, WhatCannotBeComputedAgainSaysSo) {
  const auto engine = open("mimo-basic");
  const Floats rows(static_cast<std::size_t>(40 * engine->config().hidden), 0.01f);
  Session session(*engine);
  session.forward({}, {.inputs = {.embeddings = rows}});
  session.forward(some_tokens(*engine, 200));
  session.truncate(60);
  EXPECT_THAT(test::error_of(Errc::unsupported, [&] { session.forward(Tokens{1}); }), HasSubstr("first 40 tokens"));
  EXPECT_EQ(session.length(), 60);
  session.clear();
  test::expect_same_bits(logits(session, {1, 2}), logits(*engine, {1, 2}), "cleared");
}

}  // namespace
}  // namespace millrace
