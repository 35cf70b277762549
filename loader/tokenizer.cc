#include "loader/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "loader/added_tokens.h"
#include "loader/tokenizer_file.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t longest_text = std::size_t{1} << 30;

// The parts of `ranges` that lie in `window`, counted from its beginning. `ranges` is in order.
std::vector<ByteRange> ranges_within(std::span<const ByteRange> ranges, ByteRange window) {
  std::vector<ByteRange> inside;
  auto range = std::partition_point(ranges.begin(), ranges.end(),
                                    [&](const ByteRange& candidate) { return candidate.end <= window.begin; });
  for (; range != ranges.end() && range->begin < window.end; ++range)
    inside.push_back(
        {std::max(range->begin, window.begin) - window.begin, std::min(range->end, window.end) - window.begin});
  return inside;
}

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

  // `plain`: ranges of the text in which no added token may be.
  void encode_with_tokens(std::string_view text, std::span<const ByteRange> plain,
                          std::vector<std::int32_t>& ids) const {
    for (const TextSpan& outer : in_raw.split(text, plain)) {
      if (outer.id >= 0) {
        ids.push_back(outer.id);
        continue;
      }
      const auto begin = static_cast<std::size_t>(outer.text.data() - text.data());
      std::vector<ByteRange> inner_plain = ranges_within(plain, {begin, begin + outer.text.size()});
      const std::string between = normalized(outer.text, inner_plain);
      for (const TextSpan& inner : in_normalized.split(between, inner_plain)) {
        const auto at = static_cast<std::size_t>(inner.text.data() - between.data());
        if (inner.id >= 0)
          ids.push_back(inner.id);
        else if (ranges_within(inner_plain, {at, at + inner.text.size()}).empty())
          encode_text(inner.text, ids);
        else
          encode_plainly(inner.text, ids);
      }
    }
  }

  // Normalizes a text and moves the ranges along. Where characters on both sides of a border compose, nobody can say
  // whose the result is: then all of the text becomes one plain range.
  std::string normalized(std::string_view text, std::vector<ByteRange>& plain) const {
    std::string whole = normalized(text);
    if (plain.empty() || parts.tokens.normalizers.empty()) return whole;
    if (plain[0].begin == 0 && plain[0].end == text.size()) {
      plain = {{0, whole.size()}};
      return whole;
    }
    std::string joined;
    std::vector<ByteRange> moved;
    std::size_t at = 0;
    for (const ByteRange& range : plain) {
      joined += normalized(text.substr(at, range.begin - at));
      const std::size_t begin = joined.size();
      joined += normalized(text.substr(range.begin, range.end - range.begin));
      moved.push_back({begin, joined.size()});
      at = range.end;
    }
    joined += normalized(text.substr(at));
    if (joined != whole) moved = {{0, whole.size()}};
    plain = std::move(moved);
    return whole;
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
  std::vector<std::int32_t> ids = encode(std::array{TextPart{text, options.parse_special}});
  if (!options.add_special_tokens) return ids;
  ids.insert(ids.begin(), state_->parts.prefix.begin(), state_->parts.prefix.end());
  ids.insert(ids.end(), state_->parts.suffix.begin(), state_->parts.suffix.end());
  return ids;
}

std::vector<std::int32_t> Tokenizer::encode(std::span<const TextPart> text_parts) const {
  std::string text;
  std::vector<ByteRange> plain;
  for (const TextPart& part : text_parts) {
    require(part.text.size() <= longest_text - text.size(), Errc::bad_argument,
            "a text of more than {} bytes, at most that many can be tokenized", longest_text);
    const std::size_t begin = text.size();
    text += replace_invalid_utf8(part.text);
    require(text.size() <= longest_text, Errc::bad_argument, "a text of {} bytes, at most {} can be tokenized",
            text.size(), longest_text);
    if (!part.parse_special && begin < text.size()) plain.push_back({begin, text.size()});
  }
  std::vector<std::int32_t> ids;
  state_->encode_with_tokens(text, plain, ids);
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
