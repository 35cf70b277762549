#include "loader/pretokenizer.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "loader/unicode.h"
#include "runtime/error.h"
#include "tests/support/golden.h"

namespace millrace {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using Pieces = std::vector<std::string>;

Pieces pieces_of(const Pretokenizer& pretokenizer, std::string_view text) {
  Pieces pieces;
  pretokenizer.split(text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

json byte_level(bool add_prefix_space = false, bool use_regex = false) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"use_regex", use_regex}};
}

json then_bytes(json first) {
  return {{"type", "Sequence"}, {"pretokenizers", {std::move(first), byte_level()}}};
}

json split_by(json pattern, const char* behavior, bool invert = false) {
  return then_bytes({{"type", "Split"}, {"pattern", std::move(pattern)}, {"behavior", behavior}, {"invert", invert}});
}

Pieces split(const json& description, std::string_view text) {
  return pieces_of(Pretokenizer(description, "file"), text);
}

class PretokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(PretokenizerGolden, NormalTextAndPiecesOfEveryCase) {
  const std::filesystem::path folder = test::golden("text") / GetParam();
  const json file = test::read_json(folder / "tokenizer.json");
  const Pretokenizer pretokenizer(file["pre_tokenizer"], "tokenizer.json");
  int compared = 0;
  for (const json& entry : test::read_jsonl(folder / "cases.jsonl")) {
    const auto text = entry["text"].get<std::string>();
    const std::string normal = file["normalizer"].is_null() ? text : normalize(text, NormalForm::nfc);
    if (entry.contains("normalized")) {
      EXPECT_EQ(normal, entry["normalized"]) << entry["name"];
      ++compared;
    }
    if (entry.contains("pieces")) {
      EXPECT_EQ(json(pieces_of(pretokenizer, normal)), entry["pieces"]) << entry["name"];
      ++compared;
    }
  }
  EXPECT_GT(compared, 100);
}

INSTANTIATE_TEST_SUITE_P(Text, PretokenizerGolden, testing::Values("qwen2-like", "o200k-like", "added-variants"));

TEST(Pretokenizer, SplitsInFiveWays) {
  const json dash = {{"String", "-"}};
  const std::string text = "the-final--countdown";
  EXPECT_THAT(split(split_by(dash, "Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split(split_by(dash, "Isolated"), text), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(split_by(dash, "MergedWithPrevious"), text), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split(split_by(dash, "MergedWithNext"), text), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split(split_by(dash, "Contiguous"), text), ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(split(split_by(dash, "Removed", true), text), ElementsAre("-", "-", "-"));
}

TEST(Pretokenizer, TakesStringsLiterally) {
  EXPECT_THAT(split(split_by({{"String", "."}}, "Isolated"), "a.b\xC3\xA9"), ElementsAre("a", ".", "b\xC3\xA9"));
  EXPECT_THAT(split(split_by({{"String", ""}}, "Isolated"), "a\u00E9\u6C34"), ElementsAre("a", "\u00E9", "\u6C34"));
}

TEST(Pretokenizer, CountsEmptyMatchesLikeTheReference) {
  EXPECT_THAT(split(split_by({{"Regex", "x*"}}, "Isolated"), "axxb"), ElementsAre("a", "xx", "b"));
  EXPECT_THAT(split(split_by({{"Regex", "(?=b)"}}, "Isolated"), "abab"), ElementsAre("a", "ba", "b"));
}

TEST(Pretokenizer, WhiteSpaceIsUnicodes) {
  const json space = split_by({{"Regex", "\\s"}}, "Removed");
  EXPECT_THAT(split(space, "a\u0085b\u3000c"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(split(space,
                    "a\u180Eb\u200Bc\uFEFF"
                    "d\x1C"),
              SizeIs(1));
}

TEST(Pretokenizer, WordCharactersAreOnigurumas) {
  EXPECT_THAT(split(split_by({{"Regex", "\\w+"}}, "Removed"), "a\u00BD\u0301_\u2163-\u2460."), ElementsAre("-\u2460."));
  EXPECT_THAT(split(split_by({{"Regex", "[^\\w]"}}, "Removed"), "a\u00BDb"), ElementsAre("a", "b"));
  EXPECT_THAT(split(split_by({{"Regex", "\\b"}}, "Isolated"), "a\u0301 b"), ElementsAre("a\u0301", " ", "b"));
}

TEST(Pretokenizer, ByteLevelHasItsOwnRegexAndSpace) {
  EXPECT_THAT(split(byte_level(false, true), "I'm 25  y"), ElementsAre("I", "'m", " 25", " ", " y"));
  EXPECT_THAT(split(byte_level(true, true), "one two"), ElementsAre(" one", " two"));
  EXPECT_THAT(split(byte_level(true, false), " one"), ElementsAre(" one"));
  json words = split_by({{"String", "-"}}, "Removed");
  words["pretokenizers"][1]["add_prefix_space"] = true;
  EXPECT_THAT(split(words, "a- b-c"), ElementsAre(" a", " b", " c"));
  EXPECT_THAT(split({{"type", "ByteLevel"}, {"add_prefix_space", false}}, "a b"), ElementsAre("a", " b"));
}

TEST(Pretokenizer, DigitsAndPunctuation) {
  EXPECT_THAT(split(then_bytes({{"type", "Digits"}, {"individual_digits", true}}), "a12\u00BDb"),
              ElementsAre("a", "1", "2", "\u00BD", "b"));
  EXPECT_THAT(split(then_bytes({{"type", "Digits"}, {"individual_digits", false}}), "a12b3"),
              ElementsAre("a", "12", "b", "3"));
  EXPECT_THAT(split(then_bytes({{"type", "Punctuation"}}), "a$b\u2014c`"),
              ElementsAre("a", "$", "b", "\u2014", "c", "`"));
}

TEST(Pretokenizer, TextWithoutCharactersHasNoPieces) {
  EXPECT_THAT(split(byte_level(true, true), ""), SizeIs(0));
  EXPECT_THAT(split(byte_level(), std::string_view("a\0b", 3)), ElementsAre(std::string("a\0b", 3)));
}

void expect_error(const json& description, const char* mentions) {
  try {
    Pretokenizer pretokenizer(description, "tokenizer.json");
    FAIL() << "accepted: " << description;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
    EXPECT_THAT(error.what(), HasSubstr(mentions));
  }
}

TEST(Pretokenizer, RefusesWhatItDoesNotUnderstand) {
  expect_error(nullptr, "object");
  expect_error(json::array(), "object");
  expect_error({{"type", 3}}, "type");
  expect_error({{"type", "Metaspace"}}, "Metaspace");
  expect_error({{"type", "Sequence"}}, "pretokenizers");
  expect_error({{"type", "Sequence"}, {"pretokenizers", {byte_level(), byte_level()}}}, "after ByteLevel");
  expect_error({{"type", "Digits"}, {"individual_digits", true}}, "ByteLevel");
  expect_error({{"type", "ByteLevel"}}, "add_prefix_space");
  expect_error(split_by({{"Regex", "(a"}}, "Isolated"), "(a");
  expect_error(split_by({{"Regex", 1}}, "Isolated"), "Regex");
  expect_error(split_by("x", "Isolated"), "pattern");
  expect_error(split_by({{"Regex", "a"}}, "Sideways"), "Sideways");
  expect_error(split_by({{"Regex", std::string(20000, 'a')}}, "Isolated"), "20000");
  expect_error(split_by({{"Regex", std::string(1000, '(') + std::string(1000, ')')}}, "Isolated"), "parenthes");
  json many = json::array();
  for (int i = 0; i < 100; ++i) many.push_back({{"type", "Punctuation"}});
  expect_error({{"type", "Sequence"}, {"pretokenizers", many}}, "stages");
}

TEST(Pretokenizer, EndlessBacktrackingIsAnError) {
  const Pretokenizer trap(split_by({{"Regex", "(a|aa|aaa)+[bc]"}}, "Isolated"), "file");
  EXPECT_THROW(pieces_of(trap, std::string(2000, 'a')), Error);
}

TEST(Pretokenizer, LongRunsArePiecesOfAnyLength) {
  for (const char* name : {"qwen2-like", "o200k-like", "added-variants"}) {
    const Pretokenizer pretokenizer(test::read_json(test::golden("text") / name / "tokenizer.json")["pre_tokenizer"],
                                    name);
    for (const char* unit : {"a", "A", " ", "\n", "\u6C34", "-", "\u0301"}) {
      std::string run;
      while (run.size() < 1'000'000) run += unit;
      std::size_t bytes = 0;
      pretokenizer.split(run, [&](std::string_view piece) { bytes += piece.size(); });
      EXPECT_EQ(bytes, run.size()) << name << " " << unit;
    }
  }
}

}  // namespace
}  // namespace millrace
