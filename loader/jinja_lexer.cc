#include "loader/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "loader/jinja_error.h"
#include "loader/unicode.h"

namespace millrace::jinja {
namespace {

constexpr std::size_t longest_source_bytes = std::size_t{1} << 20;

// With "\n" for every kind of line end, and without the last one.
Text normalized_lines(std::string_view source) {
  Text text;
  const Text raw = to_text(source);
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == U'\r' && i + 1 < raw.size() && raw[i + 1] == U'\n') continue;
    text += raw[i] == U'\r' ? U'\n' : raw[i];
  }
  if (!text.empty() && text.back() == U'\n') text.pop_back();
  return text;
}

bool is_ascii_digit(char32_t c) {
  return c >= U'0' && c <= U'9';
}
bool is_hex(char32_t c) {
  return is_ascii_digit(c) || (c >= U'a' && c <= U'f') || (c >= U'A' && c <= U'F');
}

class Lexer {
 public:
  Lexer(Text source, const std::string& name) : source_(std::move(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      read_data();
      if (at_ < source_.size()) read_tag();
    }
    add(TokenKind::end, {});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(const std::string& what) const { throw TemplateError(name_, line_, what); }

  bool at(std::u32string_view text, std::size_t where) const {
    return source_.compare(where, text.size(), Text(text.begin(), text.end())) == 0;
  }
  bool at(std::u32string_view text) const { return at(text, at_); }
  char32_t peek(std::size_t where) const { return where < source_.size() ? source_[where] : U'\0'; }

  std::size_t after_space(std::size_t where) const {
    while (where < source_.size() && is_space(source_[where])) ++where;
    return where;
  }

  void add(TokenKind kind, Text value) { tokens_.push_back({kind, std::move(value), line_}); }

  // Moves on and counts the lines.
  void advance(std::size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), U'\n'));
    line_starting_ = to > at_ ? source_[to - 1] == U'\n' : line_starting_;
    at_ = to;
  }

  // The end of `-%}` with the space after it, of `+%}`, or of `%}` with the newline after it; nowhere if none is here.
  std::size_t close(std::u32string_view end, std::size_t where, bool plus, bool trims) const {
    const std::size_t size = end.size();
    if (peek(where) == U'-' && at(end, where + 1)) return after_space(where + 1 + size);
    if (plus && peek(where) == U'+' && at(end, where + 1)) return where + 1 + size;
    if (!at(end, where)) return nowhere;
    return where + size + (trims && peek(where + size) == U'\n' ? 1 : 0);
  }

  // The end of `{% raw %}` here, or nowhere.
  std::size_t raw_begin_end(std::size_t where) const {
    if (!at(U"{%", where)) return nowhere;
    std::size_t inside = where + 2;
    if (peek(inside) == U'-' || peek(inside) == U'+') ++inside;
    inside = after_space(inside);
    if (!at(U"raw", inside)) return nowhere;
    return close(U"%}", after_space(inside + 3), false, false);
  }

  // Data before a tag whose sign is at `sign`, without the space that the tag eats.
  Text data_before(std::size_t begin, std::size_t tag, bool is_variable) const {
    TextView text = TextView(source_).substr(begin, tag - begin);
    const char32_t sign = peek(tag + 2);
    if (sign == U'-') return Text(strip_right(text));
    if (sign == U'+' || is_variable) return Text(text);
    const std::size_t newline = text.rfind(U'\n');
    const std::size_t line_begin = newline == nowhere ? 0 : newline + 1;
    const bool starts_line = newline != nowhere || line_starting_;
    if (starts_line && strip_left(text.substr(line_begin)).empty()) text = text.substr(0, line_begin);
    return Text(text);
  }

  // Up to the next tag, comment or raw block, which read_tag() finds at its beginning.
  void read_data() {
    std::size_t tag = at_;
    while (tag < source_.size() && !at(U"{{", tag) && !at(U"{%", tag) && !at(U"{#", tag)) ++tag;
    if (tag == source_.size()) {
      if (tag > at_) add(TokenKind::data, source_.substr(at_));
      return advance(tag);
    }
    Text data = data_before(at_, tag, at(U"{{", tag));
    if (!data.empty()) add(TokenKind::data, std::move(data));
    advance(tag);
  }

  std::size_t after_sign(std::size_t tag) const {
    return tag + 2 + (peek(tag + 2) == U'-' || peek(tag + 2) == U'+' ? 1 : 0);
  }

  void read_tag() {
    if (at(U"{#")) return read_comment();
    if (const std::size_t end = raw_begin_end(at_); end != nowhere) return read_raw(end);
    const bool is_variable = at(U"{{");
    add(is_variable ? TokenKind::variable_begin : TokenKind::block_begin, {});
    advance(after_sign(at_));
    read_inside(is_variable);
  }

  void read_comment() {
    for (std::size_t i = after_sign(at_); i < source_.size(); ++i) {
      const std::size_t end = close(U"#}", i, true, true);
      if (end != nowhere) return advance(end);
    }
    fail_here("the comment is not closed, expected #}");
  }

  void read_raw(std::size_t begin) {
    advance(begin);
    for (std::size_t i = at_; i < source_.size(); ++i) {
      if (!at(U"{%", i)) continue;
      const std::size_t inside = after_space(after_sign(i));
      if (!at(U"endraw", inside)) continue;
      const std::size_t end = close(U"%}", after_space(inside + 6), true, true);
      if (end == nowhere) continue;
      Text data = data_before(at_, i, false);
      if (!data.empty()) add(TokenKind::data, std::move(data));
      return advance(end);
    }
    fail_here("the raw block is not closed, expected {% endraw %}");
  }

  // Tokens up to and with the end of the tag.
  void read_inside(bool is_variable) {
    std::vector<char32_t> open;
    const std::u32string_view end = is_variable ? U"}}" : U"%}";
    const int tag_line = line_;
    while (at_ < source_.size()) {
      const std::size_t closed = open.empty() ? close(end, at_, !is_variable, !is_variable) : nowhere;
      if (closed != nowhere) {
        add(is_variable ? TokenKind::variable_end : TokenKind::block_end, {});
        return advance(closed);
      }
      read_token(open);
    }
    line_ = tag_line;
    fail_here(is_variable ? "the expression is not closed, expected }}" : "the block tag is not closed, expected %}");
  }

  void read_token(std::vector<char32_t>& open) {
    const char32_t c = source_[at_];
    if (is_space(c)) return advance(after_space(at_));
    if (is_ascii_digit(c)) return read_number();
    if (is_word(c)) return read_name();
    if (c == U'\'' || c == U'"') return read_string(c);
    read_sign(open);
  }

  // One or more digits, with single underscores between digits; `from` if there are none.
  std::size_t digits_end(std::size_t from, bool (*is_one)(char32_t) = is_ascii_digit) const {
    std::size_t end = from;
    while (end < source_.size() &&
           (is_one(source_[end]) || (end > from && source_[end] == U'_' && is_one(peek(end + 1)))))
      ++end;
    return end;
  }

  std::size_t float_end() const {
    if (at_ > 0 && source_[at_ - 1] == U'.') return at_;
    const std::size_t whole = digits_end(at_);
    std::size_t end = whole;
    if (peek(end) == U'.' && digits_end(end + 1) > end + 1) end = digits_end(end + 1);
    if (peek(end) == U'e' || peek(end) == U'E') {
      const std::size_t exponent = end + 1 + (peek(end + 1) == U'+' || peek(end + 1) == U'-' ? 1 : 0);
      if (digits_end(exponent) > exponent) return digits_end(exponent);
    }
    return end > whole ? end : at_;
  }

  std::size_t integer_end() const {
    if (source_[at_] != U'0') return digits_end(at_);
    const auto with_prefix = [this](bool (*is_one)(char32_t)) {
      const std::size_t begin = at_ + 2 + (peek(at_ + 2) == U'_' ? 1 : 0);
      const std::size_t end = digits_end(begin, is_one);
      return end > begin ? end : at_ + 1;
    };
    switch (peek(at_ + 1) | 0x20) {
      case U'b':
        return with_prefix([](char32_t c) { return c == U'0' || c == U'1'; });
      case U'o':
        return with_prefix([](char32_t c) { return c >= U'0' && c <= U'7'; });
      case U'x':
        return with_prefix(is_hex);
      default:
        return digits_end(at_, [](char32_t c) { return c == U'0'; });
    }
  }

  void read_number() {
    const std::size_t real = float_end();
    const std::size_t end = real > at_ ? real : integer_end();
    Text digits = source_.substr(at_, end - at_);
    std::erase(digits, U'_');
    add(real > at_ ? TokenKind::real : TokenKind::integer, std::move(digits));
    advance(end);
  }

  void read_name() {
    std::size_t end = at_;
    while (end < source_.size() && is_word(source_[end])) ++end;
    if (!is_identifier_start(source_[at_])) fail_here("invalid character in a name");
    add(TokenKind::name, source_.substr(at_, end - at_));
    advance(end);
  }

  void read_string(char32_t quote) {
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == U'\\' ? 2 : 1;
    if (end >= source_.size()) fail_here("the string is not closed");
    add(TokenKind::text, unescaped(source_.substr(at_ + 1, end - at_ - 1)));
    advance(end + 1);
  }

  // As Python decodes "unicode-escape" from ASCII with other characters escaped first: a backslash before one of those
  // escapes the backslash of its escape.
  Text unescaped(const Text& text) const {
    Text result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != U'\\') {
        result += text[i];
      } else {
        ++i;
        i += escape(TextView(text).substr(i), result) - 1;
      }
    }
    return result;
  }

  // Handles what follows a backslash and returns how long it was.
  std::size_t escape(TextView text, Text& result) const {
    constexpr std::u32string_view letters = U"\\'\"abfnrtv", meant = U"\\'\"\a\b\f\n\r\t\v";
    const char32_t c = text[0];
    if (c == U'\n') return 1;
    if (const std::size_t letter = letters.find(c); letter != letters.npos) {
      result += meant[letter];
      return 1;
    }
    if (c == U'x') return hex_escape(text, 2, result);
    if (c == U'u') return hex_escape(text, 4, result);
    if (c == U'U') return hex_escape(text, 8, result);
    if (c >= U'0' && c <= U'7') {
      char32_t value = 0;
      std::size_t size = 0;
      for (; size < 3 && size < text.size() && text[size] >= U'0' && text[size] <= U'7'; ++size)
        value = value * 8 + (text[size] - U'0');
      result += value;
      return size;
    }
    if (c == U'N') fail_here("characters by name (\\N) are not supported in a string");
    result += U'\\';
    if (c < 0x80)
      result += c;
    else
      append(result, c < 0x100     ? fmt::format("x{:02x}", static_cast<unsigned>(c))
                     : c < 0x10000 ? fmt::format("u{:04x}", static_cast<unsigned>(c))
                                   : fmt::format("U{:08x}", static_cast<unsigned>(c)));
    return 1;
  }

  std::size_t hex_escape(TextView text, std::size_t digits, Text& result) const {
    char32_t value = 0;
    if (text.size() <= digits) fail_here("an escape in a string is cut short");
    for (std::size_t i = 1; i <= digits; ++i) {
      if (!is_hex(text[i])) fail_here("an escape in a string has digits that are not hexadecimal");
      const char32_t digit = is_ascii_digit(text[i]) ? text[i] - U'0' : (text[i] | 0x20) - U'a' + 10;
      value = value << 4 | digit;
    }
    if (value > 0x10FFFF) fail_here("an escape in a string is no character");
    const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
    result += is_surrogate ? U'\uFFFD' : value;
    return digits + 1;
  }

  void read_sign(std::vector<char32_t>& open) {
    constexpr std::array<std::u32string_view, 6> pairs = {U"//", U"**", U"==", U"!=", U">=", U"<="};
    constexpr std::u32string_view singles = U"+-/*%~[](){}><=.:|,;";
    const bool is_pair = std::any_of(pairs.begin(), pairs.end(), [this](auto pair) { return at(pair); });
    const std::size_t size = is_pair ? 2 : 1;
    const char32_t c = source_[at_];
    if (size == 1 && singles.find(c) == singles.npos)
      fail_here("unexpected character " + in_quotes(to_utf8(source_.substr(at_, 1))));
    if (c == U'(' || c == U'[' || c == U'{') {
      open.push_back(c == U'(' ? U')' : c == U'[' ? U']' : U'}');
    } else if (c == U')' || c == U']' || c == U'}') {
      const std::string found = to_utf8(Text(1, c));
      if (open.empty()) fail_here("unexpected '" + found + "'");
      if (open.back() != c) fail_here("unexpected '" + found + "', expected '" + to_utf8(Text(1, open.back())) + "'");
      open.pop_back();
    }
    add(TokenKind::sign, source_.substr(at_, size));
    advance(at_ + size);
  }

  Text source_;
  const std::string& name_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // whether what was read last ended a line
  std::vector<Token> tokens_;
};

}  // namespace

bool Token::is_sign(std::u32string_view sign) const noexcept {
  return kind == TokenKind::sign && std::equal(value.begin(), value.end(), sign.begin(), sign.end());
}

bool Token::is_name(std::u32string_view name) const noexcept {
  return kind == TokenKind::name && std::equal(value.begin(), value.end(), name.begin(), name.end());
}

std::vector<Token> lex(std::string_view source, const std::string& name) {
  require(source.size() <= longest_source_bytes, Errc::bad_file, "{}: a template of {} bytes, the limit is {}", name,
          source.size(), longest_source_bytes);
  return Lexer(normalized_lines(source), name).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::data:
      return "template text";
    case TokenKind::variable_begin:
      return "'{{'";
    case TokenKind::variable_end:
      return "'}}'";
    case TokenKind::block_begin:
      return "'{%'";
    case TokenKind::block_end:
      return "'%}'";
    case TokenKind::end:
      return "the end of the template";
    default:
      return in_quotes(to_utf8(token.value));
  }
}

}  // namespace millrace::jinja
