#include "loader/bpe.h"

#include <gmock/gmock.h>

#include <limits>
#include <map>
#include <string>

#include "loader/byte_alphabet.h"
#include "runtime/error.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

Vocabulary make_vocabulary(const std::vector<std::string>& tokens) {
  Vocabulary vocabulary;
  for (const std::string& token : tokens) vocabulary.add_model_token(vocabulary.size(), token, "vocab");
  return vocabulary;
}

Ids encode(const Bpe& bpe, std::string_view piece) {
  Ids ids;
  bpe.encode(piece, ids);
  return ids;
}

// The definition: of all neighbours merge the leftmost pair of lowest rank, until none merges.
Ids merge_naively(const Vocabulary& vocabulary, const std::vector<Bpe::Merge>& merges, std::string_view piece) {
  std::map<Bpe::Merge, std::size_t> ranks;
  for (std::size_t i = 0; i < merges.size(); ++i) ranks[merges[i]] = i;
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    std::size_t best = parts.size(), best_rank = std::numeric_limits<std::size_t>::max();
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto rank = ranks.find({parts[i], parts[i + 1]});
      if (rank != ranks.end() && rank->second < best_rank) best = i, best_rank = rank->second;
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(*vocabulary.id_of(part));
  return ids;
}

TEST(Bpe, EqualsTheDefinitionOnRandomVocabularies) {
  test::Random random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::vector<Bpe::Merge> merges;
    for (int i = 0; i < 20; ++i) {
      const auto pick = [&] {
        return tokens[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(tokens.size())))];
      };
      const Bpe::Merge merge{pick(), pick()};
      if (merge.first.size() + merge.second.size() > 8) continue;
      if (std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
      merges.push_back(merge);
      const std::string joined = merge.first + merge.second;
      if (std::find(tokens.begin(), tokens.end(), joined) == tokens.end()) tokens.push_back(joined);
    }
    const Vocabulary vocabulary = make_vocabulary(tokens);
    const Bpe bpe(vocabulary, merges, {}, "vocab");
    for (int i = 0; i < 20; ++i) {
      std::string piece;
      for (std::int64_t length = random.below(40); length > 0; --length)
        piece += static_cast<char>('a' + random.below(3));
      ASSERT_EQ(encode(bpe, piece), merge_naively(vocabulary, merges, piece)) << piece;
    }
  }
}

TEST(Bpe, MergesBytesNotCharacters) {
  const std::string c3 = byte_letter(0xC3), a9 = byte_letter(0xA9), space = byte_letter(' ');
  const Vocabulary vocabulary = make_vocabulary({c3, a9, space, c3 + a9, space + c3});
  const Bpe bpe(vocabulary, std::vector<Bpe::Merge>{{c3, a9}, {space, c3}}, {}, "vocab");
  EXPECT_THAT(encode(bpe, " \u00E9"), ElementsAre(2, 3));
  EXPECT_THAT(encode(bpe, " \xC3"), ElementsAre(4));
  EXPECT_THAT(encode(bpe, ""), IsEmpty());
}

TEST(Bpe, AWholePieceNeedsNoMergesIfTheyAreIgnored) {
  const Vocabulary vocabulary = make_vocabulary({"a", "b", "c", "abc", "ab"});
  const std::vector<Bpe::Merge> merges = {{"a", "b"}};
  EXPECT_THAT(encode(Bpe(vocabulary, merges, {}, "v"), "abc"), ElementsAre(4, 2));
  BpeOptions options;
  options.ignore_merges = true;
  EXPECT_THAT(encode(Bpe(vocabulary, merges, options, "v"), "abc"), ElementsAre(3));
  EXPECT_THAT(encode(Bpe(vocabulary, merges, options, "v"), "abcc"), ElementsAre(4, 2, 2));
}

TEST(Bpe, UnknownBytes) {
  const Vocabulary vocabulary = make_vocabulary({"a", "<unk>"});
  EXPECT_THAT(encode(Bpe(vocabulary, {}, {}, "v"), "axya"), ElementsAre(0, 0));
  BpeOptions options;
  options.unknown = "<unk>";
  EXPECT_THAT(encode(Bpe(vocabulary, {}, options, "v"), "axyaz"), ElementsAre(0, 1, 1, 0, 1));
  options.fuse_unknown = true;
  EXPECT_THAT(encode(Bpe(vocabulary, {}, options, "v"), "axyaz"), ElementsAre(0, 1, 0, 1));
  options.unknown = "<none>";
  EXPECT_THROW(Bpe(vocabulary, {}, options, "v"), Error);
}

TEST(Bpe, AMergeNeedsItsTokens) {
  const Vocabulary vocabulary = make_vocabulary({"a", "b"});
  for (const Bpe::Merge& merge : {Bpe::Merge{"a", "zz"}, {"zz", "a"}, {"a", "b"}}) {
    try {
      Bpe(vocabulary, std::vector{merge}, {}, "tokenizer.json");
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
      EXPECT_THAT(error.what(), HasSubstr("merge 0"));
      EXPECT_THAT(error.what(), HasSubstr(merge.first == "a" && merge.second == "b" ? "\"ab\"" : "\"zz\""));
    }
  }
}

TEST(Vocabulary, RefusesContradictions) {
  Vocabulary vocabulary = make_vocabulary({"a", "b"});
  EXPECT_THROW(vocabulary.add_model_token(1, "c", "v"), Error);
  EXPECT_THROW(vocabulary.add_model_token(2, "a", "v"), Error);
  EXPECT_THROW(vocabulary.add_model_token(-1, "c", "v"), Error);
  EXPECT_THROW(vocabulary.add_model_token(Vocabulary::most_ids, "c", "v"), Error);
  AddedToken token;
  token.id = 1;
  token.content = "b";
  vocabulary.add_added_token(token, "b", "v");
  EXPECT_THROW(vocabulary.add_added_token(token, "b", "v"), Error);
  EXPECT_TRUE(vocabulary.find(1)->added && vocabulary.find(1)->in_model);
  EXPECT_EQ(vocabulary.find(7), nullptr);
}

}  // namespace
}  // namespace millrace
