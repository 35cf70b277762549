#include "loader/tokenizer.h"

#include <utility>

#include "loader/added_tokens.h"
#include "loader/tokenizer_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t longest_text = std::size_t{1} << 30;

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerParts&& from) : parts(std::move(from)) {
    for (const AddedToken& token : parts.tokens.added) {
      const AddedTokenMatcher::Rule rule{.id = static_cast<std::int32_t>(token.id),
                                         .single_word = token.single_word,
                                         .lstrip = token.lstrip,
                                         .rstrip = token.rstrip};
      const std::string text = added_token_spelling(token, parts.tokens.normalizers);
      const bool is_new = (token.normalized ? in_normalized : in_raw).add(text, rule);
      require(is_new, Errc::bad_file, "{}: the added token {} is spelled like another once normalized", parts.source,
              in_quotes(token.content));
    }
  }

  std::string normalized(std::string_view text) const {
    std::string result(text);
    for (const NormalForm form : parts.tokens.normalizers) result = normalize(result, form);
    return result;
  }

  const Token& token(std::int64_t id) const {
    const Token* found = parts.tokens.vocabulary.find(id);
    require(found != nullptr, Errc::bad_argument, "token id {} is not defined; the tokenizer has ids below {}", id,
            parts.tokens.vocabulary.size());
    return *found;
  }

  void encode_text(std::string_view text, std::vector<std::int32_t>& ids) const {
    parts.pretokenizer.split(text, [&](std::string_view piece) { parts.bpe.encode(piece, ids); });
  }

  // A vocabulary may reach an added token by merges alone; then its bytes stand for it.
  void encode_plainly(std::string_view text, std::vector<std::int32_t>& ids) const {
    std::vector<std::int32_t> plain;
    encode_text(text, plain);
    for (const std::int32_t id : plain) {
      const Token& found = token(id);
      if (found.added)
        parts.bpe.encode_bytes(found.bytes, ids);
      else
        ids.push_back(id);
    }
  }

  void encode_with_tokens(std::string_view text, std::vector<std::int32_t>& ids) const {
    for (const TextSpan& outer : in_raw.split(text)) {
      if (outer.id >= 0) {
        ids.push_back(outer.id);
        continue;
      }
      const std::string between = normalized(outer.text);
      for (const TextSpan& inner : in_normalized.split(between)) {
        if (inner.id >= 0)
          ids.push_back(inner.id);
        else
          encode_text(inner.text, ids);
      }
    }
  }

  TokenizerParts parts;
  AddedTokenMatcher in_raw, in_normalized;
};

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::open(const std::filesystem::path& folder) {
  return Tokenizer(std::make_unique<const State>(read_tokenizer(folder)));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  require(text.size() <= longest_text, Errc::bad_argument, "a text of {} bytes, at most {} can be tokenized",
          text.size(), longest_text);
  const std::string valid = replace_invalid_utf8(text);
  std::vector<std::int32_t> ids;
  if (options.add_special_tokens) ids = state_->parts.prefix;
  if (options.parse_special)
    state_->encode_with_tokens(valid, ids);
  else
    state_->encode_plainly(state_->normalized(valid), ids);
  if (options.add_special_tokens) ids.insert(ids.end(), state_->parts.suffix.begin(), state_->parts.suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const Token& token = state_->token(id);
    if (!(skip_special && token.special)) bytes += token.bytes;
  }
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  return state_->token(id).bytes;
}
std::string_view Tokenizer::token_text(std::int32_t id) const {
  return state_->token(id).text;
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token_text) const {
  return state_->parts.tokens.vocabulary.id_of(token_text);
}

std::int64_t Tokenizer::size() const noexcept {
  return state_->parts.tokens.vocabulary.size();
}

bool Tokenizer::is_defined(std::int64_t id) const noexcept {
  return state_->parts.tokens.vocabulary.find(id) != nullptr;
}

bool Tokenizer::is_special(std::int64_t id) const noexcept {
  const Token* token = state_->parts.tokens.vocabulary.find(id);
  return token != nullptr && token->special;
}

bool Tokenizer::is_added(std::int64_t id) const noexcept {
  const Token* token = state_->parts.tokens.vocabulary.find(id);
  return token != nullptr && token->added;
}

}  // namespace millrace
