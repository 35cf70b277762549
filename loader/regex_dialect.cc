#include "loader/regex_dialect.h"

#include <algorithm>
#include <cctype>

#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// PCRE2 counts U+180E as white space and leaves marks and connectors other than _ out of \w; Oniguruma goes by Unicode.
constexpr std::string_view word_set = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// Outside a class it asks a table of Latin-1 first, which has the superscript digits and the fractions too.
constexpr std::string_view word_alone = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
constexpr std::string_view hex_set = "0-9A-Fa-f";

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view what) : rest_(pattern), pattern_(pattern), what_(what) {}

  std::string translate() {
    while (!rest_.empty()) {
      if (rest_[0] == '\\')
        escape();
      else if (in_class_)
        class_character();
      else
        character();
    }
    return std::move(out_);
  }

 private:
  void copy(std::size_t count) {
    out_ += rest_.substr(0, count);
    rest_.remove_prefix(std::min(count, rest_.size()));
  }

  void replace(std::size_t count, const std::string& by) {
    out_ += by;
    rest_.remove_prefix(count);
  }

  void check(bool supported, std::string_view construct) const {
    require(supported, Errc::unsupported, "{}: {} in the regular expression {} is not supported", what_, construct,
            in_quotes(pattern_));
  }

  static std::string set(std::string_view members, bool negated) {
    return std::string(negated ? "[^" : "[") + std::string(members) + "]";
  }

  void escape() {
    const char kind = rest_.size() > 1 ? rest_[1] : '\0';
    const bool negated = std::isupper(static_cast<unsigned char>(kind)) != 0;
    switch (kind) {
      case 's':
      case 'S':
        return replace(2, negated ? "\\P{White_Space}" : "\\p{White_Space}");
      case 'w':
      case 'W':
      case 'h':
      case 'H': {
        const bool word = kind == 'w' || kind == 'W';
        const std::string_view members = !word ? hex_set : in_class_ ? word_set : word_alone;
        check(!(in_class_ && negated), "\\W or \\H in a character class");
        return replace(2, in_class_ ? std::string(members) : set(members, negated));
      }
      case 'b':
      case 'B':
        return in_class_ ? copy(2) : boundary(negated);
      case 'u':
        check(rest_.size() >= 6 && std::all_of(rest_.begin() + 2, rest_.begin() + 6,
                                               [](char c) { return std::isxdigit(static_cast<unsigned char>(c)); }),
              "\\u without four hexadecimal digits");
        return replace(6, "\\x{" + std::string(rest_.substr(2, 4)) + "}");
      case 'p':
      case 'P':
      case 'x':
        return braced_escape();
      default:
        return copy(2);
    }
  }

  void boundary(bool negated) {
    const std::string word = set(word_alone, false);
    const std::string inside = "(?<=" + word + ")", before = "(?=" + word + ")";
    const std::string outside = "(?<!" + word + ")", behind = "(?!" + word + ")";
    replace(2, negated ? "(?:" + inside + before + "|" + outside + behind + ")"
                       : "(?:" + inside + behind + "|" + outside + before + ")");
  }

  // Copied whole, so that its braces are not taken for a quantifier.
  void braced_escape() {
    const std::size_t end = rest_.size() > 2 && rest_[2] == '{' ? rest_.find('}') : std::string_view::npos;
    copy(end == std::string_view::npos ? 2 : end + 1);
  }

  void class_character() {
    check(!rest_.starts_with("&&"), "an intersection of character classes");
    if (rest_.starts_with("[:")) {
      const std::size_t end = rest_.find(":]");
      check(end != std::string_view::npos, "a nested character class");
      return copy(end + 2);
    }
    check(rest_[0] != '[', "a nested character class");
    in_class_ = rest_[0] != ']';
    copy(1);
  }

  void character() {
    switch (rest_[0]) {
      case '[':
        in_class_ = true;
        copy(rest_.starts_with("[^") ? 2 : 1);
        if (rest_.starts_with("]")) replace(1, "\\]");  // a bracket that comes first is a member
        return;
      case '{':
        return quantifier();
      case '(':
        return group();
      default:
        return copy(1);
    }
  }

  void quantifier() {
    const std::size_t end = rest_.find('}');
    const std::string_view inside = rest_.substr(1, end == std::string_view::npos ? 0 : end - 1);
    const bool counts = !inside.empty() && inside.find_first_not_of("0123456789,") == std::string_view::npos;
    if (!counts) return copy(1);
    check(inside[0] != ',', "{,m}");
    copy(end + 1);
    check(!rest_.starts_with("+"), "{n,m}+");
  }

  void group() {
    const std::size_t flags_end = rest_.find_first_not_of("imx-", 2);
    const bool has_flags = rest_.starts_with("(?") && flags_end != std::string_view::npos && flags_end > 2 &&
                           (rest_[flags_end] == ':' || rest_[flags_end] == ')');
    check(!has_flags || rest_.substr(0, flags_end).find('m') == std::string_view::npos, "the option m");
    copy(has_flags ? flags_end : 1);
  }

  std::string_view rest_, pattern_, what_;
  std::string out_;
  bool in_class_ = false;
};

}  // namespace

std::string pcre2_pattern(std::string_view oniguruma, std::string_view what) {
  return Translator(oniguruma, what).translate();
}

}  // namespace millrace
