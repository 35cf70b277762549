// PlainJson: reads JSON in its plainest form, many times faster than parse_json: strings of printable ASCII without
// escapes, whole numbers of at most 18 digits, objects and arrays. What it accepts is JSON and means the same to every
// parser; what it refuses may be JSON all the same: parse_json decides, and says what is wrong. Views its text; used by
// one thread. Nesting is that of the caller's own calls.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace {

class PlainJson {
 public:
  explicit PlainJson(std::string_view text) : text_(text) {}

  // Each takes what it names after any white space, or refuses; after a refusal the place is undefined.
  bool take(char c) noexcept {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool string(std::string_view& value) noexcept {
    if (!take('"')) return false;
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_plain[static_cast<unsigned char>(text_[at_])]) ++at_;
    value = text_.substr(begin, at_ - begin);
    return at_ < text_.size() && text_[at_++] == '"';
  }
  bool number(std::uint64_t& value) noexcept {
    skip_space();
    const std::size_t begin = at_;
    for (value = 0; at_ < text_.size() && is_digit(text_[at_]) && at_ - begin <= most_digits; ++at_)
      value = 10 * value + static_cast<std::uint64_t>(text_[at_] - '0');
    const std::size_t digits = at_ - begin;
    if (digits == 0 || digits > most_digits || (digits > 1 && text_[begin] == '0')) return false;
    return at_ == text_.size() || std::string_view(".eE").find(text_[at_]) == std::string_view::npos;
  }
  // member(key) takes the value of each key and returns whether that went well. Repeated keys are for it to notice.
  template <class Member>
  bool object(Member&& member) {
    if (!take('{')) return false;
    if (take('}')) return true;
    do {
      std::string_view key;
      if (!string(key) || !take(':') || !member(key)) return false;
    } while (take(','));
    return take('}');
  }
  // element() takes each element.
  template <class Element>
  bool array(Element&& element) {
    if (!take('[')) return false;
    if (take(']')) return true;
    do
      if (!element()) return false;
    while (take(','));
    return take(']');
  }
  bool end() noexcept {
    skip_space();
    return at_ == text_.size();
  }

 private:
  static constexpr std::size_t most_digits = 18;

  // Of what a plain string holds: printable ASCII but " and \.
  static constexpr auto is_plain = [] {
    std::array<bool, 256> plain{};
    for (int c = ' '; c <= '~'; ++c) plain[static_cast<std::size_t>(c)] = c != '"' && c != '\\';
    return plain;
  }();

  static bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
  void skip_space() noexcept {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace millrace
