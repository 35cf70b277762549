#include "loader/detokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "tests/support/golden.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using nlohmann::json;

class DetokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(DetokenizerGolden, EveryStream) {
  const std::filesystem::path folder = test::golden("text") / GetParam();
  const Tokenizer tokenizer = Tokenizer::open(folder);
  for (const json& entry : test::read_jsonl(folder / "streaming.jsonl")) {
    Detokenizer stream(tokenizer, entry["skip_special_tokens"].get<bool>());
    json pieces = json::array();
    for (const std::int32_t id : entry["ids"].get<std::vector<std::int32_t>>()) pieces.push_back(stream.push(id));
    EXPECT_EQ(pieces, entry["pieces"]) << entry["name"];
    EXPECT_EQ(stream.flush(), entry["flush"]) << entry["name"];
  }
}

TEST_P(DetokenizerGolden, RandomIdsGiveTheTextOfDecode) {
  const Tokenizer tokenizer = Tokenizer::open(test::golden("text") / GetParam());
  test::Random random(1);
  for (int round = 0; round < 500; ++round) {
    const bool skip = round % 2 == 0;
    Detokenizer stream(tokenizer, skip);
    std::vector<std::int32_t> ids;
    std::string text;
    for (int i = 0; i < 40; ++i) {  // mostly single bytes
      ids.push_back(static_cast<std::int32_t>(random.below(i % 4 == 0 ? tokenizer.size() : 256)));
      text += stream.push(ids.back());
    }
    text += stream.flush();
    EXPECT_EQ(text, tokenizer.decode(ids, skip));
    EXPECT_EQ(stream.flush(), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Text, DetokenizerGolden, testing::Values("qwen2-like", "o200k-like", "added-variants"));

TEST(Detokenizer, RefusesIdsThatAreNotDefined) {
  const Tokenizer tokenizer = Tokenizer::open(test::golden("text/qwen2-like"));
  Detokenizer stream(tokenizer);
  EXPECT_THROW(stream.push(-1), Error);
  EXPECT_THROW(stream.push(static_cast<std::int32_t>(tokenizer.size())), Error);
}

}  // namespace
}  // namespace millrace
