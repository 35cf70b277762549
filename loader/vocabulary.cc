#include "loader/vocabulary.h"

#include "loader/byte_alphabet.h"
#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace {

Token& Vocabulary::define(std::int64_t id, std::string_view text, std::string_view what) {
  if (id < 0 || id >= most_ids)
    fail(Errc::bad_file, "{}: token {} has id {}, expected 0 to {}", what, in_quotes(text), id, most_ids - 1);
  const auto place = static_cast<std::size_t>(id);
  if (place >= index_.size()) index_.resize(place + 1, -1);
  const auto [entry, is_new] = ids_.try_emplace(std::string(text), static_cast<std::int32_t>(id));
  if (entry->second != id)
    fail(Errc::bad_file, "{}: token {} has two ids, {} and {}", what, in_quotes(text), entry->second, id);
  if (index_[place] < 0) {
    index_[place] = static_cast<std::int32_t>(tokens_.size());
    tokens_.emplace_back().text = text;
  }
  Token& token = tokens_[static_cast<std::size_t>(index_[place])];
  if (token.text != text)
    fail(Errc::bad_file, "{}: id {} is given to two tokens, {} and {}", what, id, in_quotes(token.text),
         in_quotes(text));
  return token;
}

void Vocabulary::add_model_token(std::int64_t id, std::string_view text, std::string_view what) {
  Token& token = define(id, text, what);
  token.in_model = true;
  token.bytes = bytes_of_letters(text).value_or(token.text);
}

void Vocabulary::add_added_token(const AddedToken& added, std::string_view spelling, std::string_view what) {
  Token& token = define(added.id, added.content, what);
  require(!token.added, Errc::bad_file, "{}: the added token {} with id {} is listed twice", what,
          in_quotes(added.content), added.id);
  token.added = true;
  token.special = added.special;
  token.bytes = bytes_of_letters(spelling).value_or(std::string(spelling));
}

const Token* Vocabulary::find(std::int64_t id) const noexcept {
  if (id < 0 || id >= size()) return nullptr;
  const std::int32_t place = index_[static_cast<std::size_t>(id)];
  return place < 0 ? nullptr : &tokens_[static_cast<std::size_t>(place)];
}

std::optional<std::int32_t> Vocabulary::id_of(std::string_view text) const {
  const auto entry = ids_.find(text);
  return entry == ids_.end() ? std::nullopt : std::optional(entry->second);
}

}  // namespace millrace
