#include "loader/tokenizer_file.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "loader/tokenizer.h"
#include "runtime/error.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json small_file() {
  return json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 3, "content": "<x>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["#version: 0.2", "a b"]}
  })");
}

std::string error_of(std::string_view text, const char* config = nullptr) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", text);
  if (config != nullptr) folder.write("tokenizer_config.json", config);
  try {
    Tokenizer::open(folder.path());
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer"));
    return error.what();
  }
  return "no error";
}

// Changes one place of the small file, by JSON pointer.
std::string error_with(const char* place, const json& value) {
  json file = small_file();
  file[json::json_pointer(place)] = value;
  return error_of(file.dump());
}

TEST(TokenizerFile, ReadsTheSmallestFile) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", small_file().dump());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.size(), 4);
  EXPECT_THAT(tokenizer.encode("ab<x>ba"), ElementsAre(2, 3, 1, 0));
}

TEST(TokenizerFile, AnEmptyFolderHasNoTokenizer) {
  const test::TempFolder folder;
  try {
    Tokenizer::open(folder.path());
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::not_found);
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
  }
}

TEST(TokenizerFile, EveryTruncationIsAnError) {
  const std::string text = small_file().dump();
  for (std::size_t length = 0; length < text.size(); ++length)
    EXPECT_THAT(error_of(text.substr(0, length)), HasSubstr("JSON"));
}

TEST(TokenizerFile, NamesWhatIsWrong) {
  EXPECT_THAT(error_with("/model/merges/1", json::array({"a", "zz"})), HasSubstr("zz"));
  EXPECT_THAT(error_with("/model/merges/0", "a b b"), HasSubstr("merge 0"));
  EXPECT_THAT(error_with("/model/merges/0", json::array({"a", "b", "a"})), HasSubstr("merge 0"));
  EXPECT_THAT(error_with("/model/merges", 1), HasSubstr("merges"));
  EXPECT_THAT(error_with("/model/vocab/c", 1), HasSubstr("id 1 "));
  EXPECT_THAT(error_with("/model/vocab/c", -1), HasSubstr("-1"));
  EXPECT_THAT(error_with("/model/vocab/c", 1.5), HasSubstr("1.5"));
  EXPECT_THAT(error_with("/model/vocab/c", std::int64_t{1} << 40), HasSubstr("1099511627776"));
  EXPECT_THAT(error_with("/model/vocab/c", 18446744073709551615u), HasSubstr("18446744073709551615"));
  EXPECT_THAT(error_with("/model/vocab", json::array()), HasSubstr("vocabulary"));
  EXPECT_THAT(error_with("/model/type", "Unigram"), HasSubstr("Unigram"));
  EXPECT_THAT(error_with("/model/dropout", 0.5), HasSubstr("dropout"));
  EXPECT_THAT(error_with("/model/byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(error_with("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(error_with("/model", nullptr), HasSubstr("model"));
  EXPECT_THAT(error_with("/normalizer", {{"type", "Lowercase"}}), HasSubstr("Lowercase"));
  EXPECT_THAT(error_with("/decoder", nullptr), HasSubstr("decoder"));
  EXPECT_THAT(error_with("/decoder", {{"type", "WordPiece"}}), HasSubstr("WordPiece"));
  EXPECT_THAT(error_with("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(error_with("/post_processor", {{"type", "BertProcessing"}}), HasSubstr("BertProcessing"));
}

TEST(TokenizerFile, AddedTokensMustAgree) {
  EXPECT_THAT(error_with("/added_tokens/1", {{"id", 3}, {"content", "<y>"}}), HasSubstr("id 3 "));
  EXPECT_THAT(error_with("/added_tokens/1", {{"id", 4}, {"content", "a"}}), HasSubstr("two ids"));
  EXPECT_THAT(error_with("/added_tokens/1", {{"id", 3}, {"content", "<x>"}}), HasSubstr("twice"));
  EXPECT_THAT(error_with("/added_tokens/0/id", "3"), HasSubstr("<x>"));
  EXPECT_THAT(error_with("/added_tokens/0/special", 1), HasSubstr("special"));
  EXPECT_THAT(error_with("/added_tokens/0", 7), HasSubstr("added token"));
  const std::string good = small_file().dump();
  EXPECT_THAT(error_of(good, R"({"added_tokens_decoder": {"5": {"content": "<x>"}}})"), HasSubstr("<x>"));
  EXPECT_THAT(error_of(good, R"({"added_tokens_decoder": {"3": {"content": "<y>"}}})"), HasSubstr("id 3 "));
  EXPECT_THAT(error_of(good, R"({"added_tokens_decoder": {"x": {"content": "<y>"}}})"), HasSubstr("\"x\""));
  EXPECT_THAT(error_of(good, R"({"added_tokens_decoder": )"), HasSubstr("tokenizer_config.json"));
  EXPECT_EQ(error_of(good, R"({"added_tokens_decoder": {"9": {"content": "<y>"}}})"), "no error");
}

TEST(TokenizerFile, TokensThatNormalizeAlikeAreAnError) {
  json file = small_file();
  file["normalizer"] = {{"type", "NFC"}};
  file["added_tokens"] = {{{"id", 3}, {"content", "\u00E9"}}, {{"id", 4}, {"content", "e\u0301"}}};
  EXPECT_THAT(error_of(file.dump()), HasSubstr("normalized"));
}

TEST(TokenizerFile, Templates) {
  json file = small_file();
  const json token = {{"SpecialToken", {{"id", "<x>"}, {"type_id", 0}}}}, text = {{"Sequence", {{"id", "A"}}}};
  const json tokens = {{"<x>", {{"id", "<x>"}, {"ids", {3, 3}}, {"tokens", {"<x>", "<x>"}}}}};
  const auto processor = [&](const json& single) {
    return json{{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", tokens}};
  };
  file["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {processor(json::array({token, text})), processor(json::array({text, token})), {{"type", "ByteLevel"}}}}};
  const test::TempFolder folder;
  folder.write("tokenizer.json", file.dump());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_THAT(tokenizer.encode("a", {.add_special_tokens = true}), ElementsAre(3, 3, 0, 3, 3));
  EXPECT_THAT(tokenizer.encode("a"), ElementsAre(0));

  EXPECT_THAT(error_with("/post_processor", processor(json::array({token}))), HasSubstr("0 times"));
  EXPECT_THAT(error_with("/post_processor", processor(json::array({text, {{"Sequence", {{"id", "B"}}}}}))),
              HasSubstr("\"B\""));
  json undefined = processor(json::array({token, text}));
  undefined["special_tokens"]["<x>"]["ids"] = {77};
  EXPECT_THAT(error_with("/post_processor", undefined), HasSubstr("77"));
}

TEST(TokenizerFile, BrokenFixturesAreNamed) {
  int seen = 0;
  for (const json& fixture : test::read_json(test::golden("bad/bad.json"))) {
    if (fixture["stage"] != "tokenizer") continue;
    ++seen;
    try {
      Tokenizer::open(test::golden("bad") / fixture["path"].get<std::string>());
      ADD_FAILURE() << fixture["path"] << " was accepted";
    } catch (const Error& error) {
      for (const json& word : fixture["must_mention"])
        EXPECT_THAT(error.what(), HasSubstr(word.get<std::string>())) << fixture["path"];
    }
  }
  EXPECT_EQ(seen, 3);
}

TEST(TokenizerFile, TheLayoutOfTwoFilesNeedsAKnownClass) {
  const test::TempFolder folder;
  folder.write("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  folder.write("merges.txt", "#version: 0.2\r\na b\r\n");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  EXPECT_THAT(Tokenizer::open(folder.path()).encode("aba"), ElementsAre(2, 0));
  folder.write("merges.txt", "a c\n");
  EXPECT_THROW(Tokenizer::open(folder.path()), Error);
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  EXPECT_THROW(Tokenizer::open(folder.path()), Error);
}

}  // namespace
}  // namespace millrace
