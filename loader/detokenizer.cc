#include "loader/detokenizer.h"

#include <utility>

#include "loader/unicode.h"

namespace millrace {

std::string Detokenizer::push(std::int32_t id) {
  const std::string_view bytes = tokenizer_.token_bytes(id);
  std::string text;
  if (skip_special_ && tokenizer_.is_special(id)) return text;
  held_ += bytes;
  take_utf8(held_, text);
  return text;
}

std::string Detokenizer::flush() {
  return replace_invalid_utf8(std::exchange(held_, {}));
}

}  // namespace millrace
