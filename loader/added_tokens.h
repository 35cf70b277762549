// AddedTokenMatcher: cuts added tokens out of text, the leftmost first and of those that begin there the longest.
// Immutable after construction and safe to share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace millrace {

// A range of bytes, [begin, end).
struct ByteRange {
  std::size_t begin = 0, end = 0;
};

// A part of a text: an added token, or text between them.
struct TextSpan {
  std::string_view text;
  std::int32_t id = -1;  // -1 = text
};

class AddedTokenMatcher {
 public:
  struct Rule {
    std::int32_t id = 0;
    bool single_word = false, lstrip = false, rstrip = false;
  };

  // `text` must not be empty. False, and no change, if this text has a rule already.
  bool add(std::string_view text, const Rule& rule);

  // The spans of valid UTF-8 in order, none of them empty. A token that is not a single word though it must be hides
  // what overlaps it all the same; white space that a token takes along may still hold the next token, as in the
  // reference implementation (added_vocabulary.rs of huggingface/tokenizers). No byte of the ranges `plain`, which are
  // in order, is ever part of a token, but for white space that one takes along.
  std::vector<TextSpan> split(std::string_view text, std::span<const ByteRange> plain = {}) const;

 private:
  struct Match {
    std::size_t bytes = 0;  // 0 = none
    std::int32_t rule = -1;
  };
  Match longest_at(std::string_view text) const;

  std::vector<Rule> rules_;
  std::array<bool, 256> begins_{};                            // by first byte
  std::unordered_map<std::uint64_t, std::int32_t> children_;  // of a trie: node * 256 + byte -> node; the root is 0
  std::vector<std::int32_t> rule_at_ = {-1};                  // by node
};

}  // namespace millrace
