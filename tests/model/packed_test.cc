// Packed sequences against each alone.
#include "model/packed.h"

#include <gmock/gmock.h>

#include "model/executor.h"
#include "tests/model/sessions.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/recorder.h"

namespace millrace {
namespace {

using testing::HasSubstr;
using namespace test;

TEST(Packed, EverySequenceIsComputedAsIfAlone) {
  for (Numerics numerics : {Numerics::fast, Numerics::hf, Numerics::f32})
    for (std::int64_t chunk : {16, 512}) {
      const auto engine = open_golden("mimo-basic", numerics, {.chunk = chunk});
      const auto executor = std::make_shared<Executor>(*engine);
      Random random(1);
      // Lengths on both sides of the window and of a pass, and two sequences that are interleaved.
      Tokens tokens, ids, positions;
      std::map<std::int32_t, Tokens> sequences;
      const auto add = [&](std::int32_t id, std::int64_t count) {
        for (std::int32_t token : random_tokens(random, *engine, count)) {
          ids.push_back(id);
          positions.push_back(static_cast<std::int32_t>(sequences[id].size()) + 5);
          tokens.push_back(token);
          sequences[id].push_back(token);
        }
      };
      for (std::int64_t count : {3, 40, 1, 9}) add(static_cast<std::int32_t>(count * 7 - 10), count);
      for (int i = 0; i < 6; ++i) add(i % 2 == 0 ? 1000 : -1000, 2 + i);

      const PackedResult packed = forward_packed(executor, tokens, ids, {.positions = positions, .hidden = true});
      for (const auto& [id, sequence] : sequences) {
        Session alone(*engine);
        Recorder recorder;
        std::vector<std::int32_t> own;
        for (std::size_t i = 0; i < sequence.size(); ++i) own.push_back(static_cast<std::int32_t>(i) + 5);
        const auto logits = logits_of(alone, sequence, {.positions = own, .observer = &recorder});
        std::vector<float> got_logits, got_hidden;
        const auto take = [](std::vector<float>& target, const std::vector<float>& source, std::size_t rows,
                             std::size_t row) {
          const auto width = static_cast<std::ptrdiff_t>(source.size() / rows);
          const auto first = source.begin() + static_cast<std::ptrdiff_t>(row) * width;
          target.insert(target.end(), first, first + width);
        };
        for (std::size_t row = 0; row < tokens.size(); ++row) {
          if (ids[row] != id) continue;
          take(got_logits, packed.logits, tokens.size(), row);
          take(got_hidden, packed.hidden, tokens.size(), row);
        }
        expect_same_bits(got_logits, logits, "logits");
        expect_same_bits(got_hidden, recorder.steps().at("norm").values, "hidden");
      }
    }
}

TEST(Packed, LeavesOutWhatIsNotWanted) {
  const auto engine = open_golden("mimo-basic", Numerics::fast);
  const auto executor = std::make_shared<Executor>(*engine);
  const PackedResult none = forward_packed(executor, Tokens{1, 2, 3}, Tokens{0, 0, 1}, {.logits = false});
  EXPECT_TRUE(none.logits.empty());
  EXPECT_TRUE(none.hidden.empty());
}

TEST(Packed, Refuses) {
  const auto engine = open_golden("mimo-basic", Numerics::fast, {.context = 8});
  const auto executor = std::make_shared<Executor>(*engine);
  const auto error = [&](const Tokens& tokens, const Tokens& ids, const Tokens& positions = {}) {
    return error_of(Errc::bad_argument, [&] { forward_packed(executor, tokens, ids, {.positions = positions}); });
  };
  EXPECT_THAT(error({}, {}), HasSubstr("no tokens"));
  EXPECT_THAT(error({1, 2}, {0}), HasSubstr("1 sequence ids for 2 tokens"));
  EXPECT_THAT(error({1, 2}, {0, 0}, {1}), HasSubstr("1 positions for 2 tokens"));
  EXPECT_THAT(error({1, -2}, {0, 1}), HasSubstr("request 1: token id -2"));
  EXPECT_THAT(error(Tokens(9, 1), Tokens(9, 1)), HasSubstr("the context holds 8"));
  EXPECT_NO_THROW(forward_packed(executor, Tokens(9, 1), Tokens{1, 2, 1, 2, 1, 2, 1, 2, 1}));
}

}  // namespace
}  // namespace millrace
