// Vocabulary: the tokens of a tokenizer by id and by text. Filled once by the reader, then immutable and safe to share.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace millrace {

// A token cut out of the text before the model sees it.
struct AddedToken {
  std::int64_t id = 0;
  std::string content;
  bool single_word = false;  // only between characters that are no word characters
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and that after it
  bool normalized = false;   // sought in the normalized text, in its own normalized spelling
  bool special = false;      // left out when decoding for people
};

struct Token {
  std::string text;       // as the file spells it
  std::string bytes;      // what it adds to a decoded text
  bool in_model = false;  // of the model's own vocabulary
  bool added = false;
  bool special = false;
};

class Vocabulary {
 public:
  static constexpr std::int64_t most_ids = std::int64_t{1} << 22;

  // Errors: Errc::bad_file, opened by `what`, for an id below 0 or beyond most_ids, an id of two texts or a text of two
  // ids.
  void add_model_token(std::int64_t id, std::string_view text, std::string_view what);
  // `spelling` is the content after normalization if the token is normalized: what it decodes to.
  void add_added_token(const AddedToken& token, std::string_view spelling, std::string_view what);

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(index_.size()); }  // largest id + 1
  const std::vector<Token>& tokens() const noexcept { return tokens_; }                    // in no particular order
  const Token* find(std::int64_t id) const noexcept;                                       // null = undefined
  std::optional<std::int32_t> id_of(std::string_view text) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };

  Token& define(std::int64_t id, std::string_view text, std::string_view what);

  std::vector<Token> tokens_;
  std::vector<std::int32_t> index_;  // by id: place in tokens_, -1 = undefined
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
};

}  // namespace millrace
