// Detokenizer: ids to text one by one, for streaming. Holds back only bytes that may still become a character.
// One per stream and thread; the tokenizer must outlive it.
#pragma once

#include <cstdint>
#include <string>

#include "loader/tokenizer.h"

namespace millrace {

class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // What becomes final with this token: valid UTF-8, with U+FFFD at once for bytes that cannot become a character.
  // A skipped token adds nothing, and the bytes around it join. Errors: Errc::bad_argument for an undefined id.
  std::string push(std::int32_t id);

  // What is left at the end of the stream: nothing, or U+FFFD for a character that stayed incomplete. All that push()
  // and flush() gave is Tokenizer::decode() of the ids.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string held_;  // the beginning of a character
};

}  // namespace millrace
