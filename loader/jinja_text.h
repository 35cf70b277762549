// Text of the template engine: code points, each of which carries one mark that tells the template author's characters
// from those that came in with the data of a request. Every operation that moves characters moves the marks with them;
// comparing and searching ignores them. Pure functions, safe from any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>

namespace millrace::jinja {

constexpr char32_t data_mark = 0x8000'0000;

constexpr char32_t point(char32_t c) noexcept {
  return c & ~data_mark;
}
constexpr char32_t mark_of(char32_t c) noexcept {
  return c & data_mark;
}

struct MarkedTraits : std::char_traits<char32_t> {
  static constexpr bool eq(char32_t a, char32_t b) noexcept { return point(a) == point(b); }
  static constexpr bool lt(char32_t a, char32_t b) noexcept { return point(a) < point(b); }
  static constexpr int compare(const char32_t* a, const char32_t* b, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; ++i)
      if (!eq(a[i], b[i])) return lt(a[i], b[i]) ? -1 : 1;
    return 0;
  }
  static constexpr const char32_t* find(const char32_t* text, std::size_t size, const char32_t& wanted) noexcept {
    for (std::size_t i = 0; i < size; ++i)
      if (eq(text[i], wanted)) return text + i;
    return nullptr;
  }
};

using Text = std::basic_string<char32_t, MarkedTraits>;
using TextView = std::basic_string_view<char32_t, MarkedTraits>;

constexpr std::size_t nowhere = TextView::npos;

// From UTF-8; bytes that are none become U+FFFD. `mark` is 0 or data_mark.
Text to_text(std::string_view utf8, char32_t mark = 0);
std::string to_utf8(TextView text);
void append(Text& text, std::string_view ascii, char32_t mark = 0);

// data_mark if any character has it. What is computed from a text as a whole inherits this.
char32_t any_mark(TextView text) noexcept;

// The first place of `wanted` from `from` on, or nowhere. Time proportional to the lengths, whatever the texts.
std::size_t find_text(TextView text, TextView wanted, std::size_t from = 0);
std::size_t find_last_text(TextView text, TextView wanted);

// Python's str.isspace() of one character: White_Space and U+001C to U+001F.
bool is_space(char32_t c) noexcept;

TextView strip_left(TextView text, bool (*drop)(char32_t) = is_space);
TextView strip_right(TextView text, bool (*drop)(char32_t) = is_space);

// Case as Python's str methods have it, full mappings and final sigma included.
Text upper(TextView text);
Text lower(TextView text);
Text title(TextView text);
Text capitalize(TextView text);
Text swap_case(TextView text);

// Python's predicates of one character.
bool is_alpha(char32_t c) noexcept;
bool is_decimal(char32_t c) noexcept;
bool is_digit(char32_t c) noexcept;
bool is_upper(char32_t c) noexcept;
bool is_lower(char32_t c) noexcept;
bool is_title(char32_t c) noexcept;
bool is_printable(char32_t c) noexcept;
bool is_identifier_start(char32_t c) noexcept;
bool is_word(char32_t c) noexcept;  // regular expressions' \w

}  // namespace millrace::jinja
