// Tokenizer: text to ids and back, as the checkpoint's tokenizer files say; byte-level BPE of the Qwen2 and GPT-2
// families. Gives the ids of huggingface/tokenizers. Immutable once open, so any number of threads may share it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

struct EncodeOptions {
  // Adds what the post-processor adds, such as a token that begins a text. Chat templates write those themselves.
  bool add_special_tokens = false;
  // Recognizes added tokens, special or not, in the text. Without it text can never become one, whatever it spells.
  bool parse_special = true;
};

// Part of a text; added tokens, special or not, are recognized only where all of their bytes lie in parts that allow
// it.
struct TextPart {
  std::string_view text;
  bool parse_special = true;
};

class Tokenizer {
 public:
  // From the files in a checkpoint's folder (see tokenizer_file.h). Throws Error naming the file and what is wrong.
  static Tokenizer open(const std::filesystem::path& folder);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // Bytes that are not UTF-8 count as U+FFFD, one for each maximal invalid part. Errors: Errc::bad_argument for more
  // than 1 GiB, or text on which the tokenizer's regular expression backtracks without end.
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // The ids of the parts' whole text, whose borders are no borders of tokens: the same as of the plain text but for
  // added tokens in parts that allow none. Every part must be whole characters of UTF-8. Errors: as above.
  std::vector<std::int32_t> encode(std::span<const TextPart> parts) const;

  // The text of the ids, always valid UTF-8: U+FFFD for each maximal invalid part of their bytes. Errors:
  // Errc::bad_argument for an id that is not defined.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  // What a token adds to a decoded text; may be part of a character. The view lives as long as the tokenizer.
  // Errors: Errc::bad_argument for an id that is not defined.
  std::string_view token_bytes(std::int32_t id) const;
  // A token as the file spells it: an added token's content, others in the letters of the byte alphabet. As above.
  std::string_view token_text(std::int32_t id) const;
  // The id of a token so spelled.
  std::optional<std::int32_t> id_of(std::string_view token_text) const;

  std::int64_t size() const noexcept;  // the largest defined id + 1
  bool is_defined(std::int64_t id) const noexcept;
  bool is_special(std::int64_t id) const noexcept;  // false for undefined ids
  bool is_added(std::int64_t id) const noexcept;    // special or not; false for undefined ids

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

}  // namespace millrace
