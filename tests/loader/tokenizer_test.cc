#include "loader/tokenizer.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/error.h"
#include "tests/support/golden.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

const Tokenizer& fixture(const std::string& name) {
  static std::map<std::string, Tokenizer> open;
  const auto found = open.find(name);
  if (found != open.end()) return found->second;
  return open.emplace(name, Tokenizer::open(test::golden("text") / name)).first->second;
}

class TokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGolden, EncodesAndDecodesEveryCase) {
  const Tokenizer& tokenizer = fixture(GetParam());
  for (const json& entry : test::read_jsonl(test::golden("text") / GetParam() / "cases.jsonl")) {
    const auto text = entry["text"].get<std::string>();
    const auto ids = entry["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = entry.value("add_special_tokens", false)}), ids)
        << entry["name"];
    const std::string decoded = entry.value("decoded", text);
    EXPECT_EQ(tokenizer.decode(ids), decoded) << entry["name"];
    EXPECT_EQ(tokenizer.decode(ids, true), entry.value("decoded_skip_special", decoded)) << entry["name"];
  }
}

INSTANTIATE_TEST_SUITE_P(Text, TokenizerGolden, testing::Values("qwen2-like", "o200k-like", "added-variants"));

TEST(Tokenizer, VocabAndMergesFilesMeanTheSame) {
  const std::filesystem::path source = test::golden("text/qwen2-like");
  const test::TempFolder folder;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"})
    std::filesystem::copy_file(source / name, folder.path() / name);
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.size(), fixture("qwen2-like").size());
  for (const json& entry : test::read_jsonl(source / "cases.jsonl"))
    EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), entry["ids"].get<Ids>()) << entry["name"];
}

TEST(Tokenizer, AddedTokensOfTheConfigurationCount) {
  const std::filesystem::path source = test::golden("text/o200k-like");
  const test::TempFolder folder;
  json file = test::read_json(source / "tokenizer.json");
  file["added_tokens"] = json::array();
  folder.write("tokenizer.json", file.dump());
  std::filesystem::copy_file(source / "tokenizer_config.json", folder.path() / "tokenizer_config.json");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  for (const json& entry : test::read_jsonl(source / "cases.jsonl"))
    EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), entry["ids"].get<Ids>()) << entry["name"];
}

TEST(Tokenizer, PlainTextNeverBecomesAnAddedToken) {
  for (const char* name : {"qwen2-like", "o200k-like", "added-variants"}) {
    const Tokenizer& tokenizer = fixture(name);
    for (const json& entry : test::read_jsonl(test::golden("text") / name / "cases.jsonl")) {
      const auto text = entry["text"].get<std::string>();
      const Ids ids = tokenizer.encode(text, {.parse_special = false});
      for (const std::int32_t id : ids) EXPECT_FALSE(tokenizer.is_added(id)) << name << " " << entry["name"];
      const bool lossless = !entry.contains("normalized") && std::string(name) != "added-variants";
      EXPECT_TRUE(!lossless || tokenizer.decode(ids) == text) << name << " " << entry["name"];
    }
  }
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer& tokenizer = fixture("o200k-like");
  const auto think = tokenizer.id_of("<think>");
  const auto end = tokenizer.id_of("[e~[");
  ASSERT_TRUE(think && end);
  EXPECT_FALSE(tokenizer.is_special(*think));
  EXPECT_TRUE(tokenizer.is_added(*think));
  EXPECT_TRUE(tokenizer.is_special(*end));
  EXPECT_EQ(tokenizer.token_text(*end), "[e~[");
  EXPECT_EQ(tokenizer.token_text(220), "\u0120");
  EXPECT_EQ(tokenizer.token_bytes(220), " ");
  EXPECT_EQ(tokenizer.id_of("\u0120"), 220);
  EXPECT_FALSE(tokenizer.id_of("no such token"));
  EXPECT_EQ(tokenizer.decode(Ids{*think, *end}, true), "<think>");
}

TEST(Tokenizer, RefusesIdsThatAreNotDefined) {
  const Tokenizer& tokenizer = fixture("qwen2-like");
  const auto size = static_cast<std::int32_t>(tokenizer.size());
  EXPECT_TRUE(tokenizer.is_defined(size - 1));
  for (const std::int32_t id :
       {-1, size, size + 1000, std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min()}) {
    EXPECT_FALSE(tokenizer.is_defined(id));
    EXPECT_FALSE(tokenizer.is_special(id));
    EXPECT_THROW(tokenizer.decode(Ids{id}), Error);
    EXPECT_THROW(tokenizer.token_text(id), Error);
  }
}

TEST(Tokenizer, TakesAnyBytes) {
  const Tokenizer& tokenizer = fixture("o200k-like");
  EXPECT_EQ(tokenizer.encode("a\xFF\xC3"), tokenizer.encode("a\uFFFD\uFFFD"));
  const std::string zeros("\0a\0", 3);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(zeros)), zeros);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(all)).substr(0, 128), all.substr(0, 128));
}

TEST(Tokenizer, AWordOfAMegabyteTakesNoTime) {
  for (const char* name : {"qwen2-like", "o200k-like", "added-variants"}) {
    const Tokenizer& tokenizer = fixture(name);
    for (const char* unit : {"a", "the", "\u0451", " ", "\n", "<"}) {
      std::string text;
      while (text.size() < 1'000'000) text += unit;
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, {.parse_special = false})), text);
    }
  }
}

TEST(Tokenizer, TheDemoModelsTokenizer) {
  const Tokenizer tokenizer = Tokenizer::open(std::filesystem::path(test::source_dir()) / "apps/demo/millrace-demo");
  for (const json& entry : test::read_json(test::golden("demo/tokenizer.json"))) {
    const auto ids = entry["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), ids) << entry["text"];
    EXPECT_EQ(tokenizer.decode(ids), entry["decoded"]);
  }
}

}  // namespace
}  // namespace millrace
