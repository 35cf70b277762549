#include "loader/jinja_text.h"

#include <algorithm>
#include <vector>

#include "loader/unicode.h"

namespace millrace::jinja {

Text to_text(std::string_view utf8, char32_t mark) {
  Text text;
  text.reserve(utf8.size());
  while (!utf8.empty()) {
    const Utf8Step step = utf8_step(utf8);
    text += (step.status == Utf8Status::valid ? step.code_point : U'\uFFFD') | mark;
    utf8.remove_prefix(step.bytes);
  }
  return text;
}

std::string to_utf8(TextView text) {
  std::string utf8;
  utf8.reserve(text.size());
  for (const char32_t c : text) append_utf8(utf8, point(c));
  return utf8;
}

void append(Text& text, std::string_view ascii, char32_t mark) {
  for (const char c : ascii) text += static_cast<unsigned char>(c) | mark;
}

char32_t any_mark(TextView text) noexcept {
  return std::any_of(text.begin(), text.end(), [](char32_t c) { return mark_of(c) != 0; }) ? data_mark : 0;
}

namespace {

// Knuth, Morris and Pratt.
std::size_t find_long(TextView text, TextView wanted, std::size_t from) {
  std::vector<std::size_t> border(wanted.size(), 0);
  for (std::size_t i = 1, length = 0; i < wanted.size(); ++i) {
    while (length > 0 && point(wanted[i]) != point(wanted[length])) length = border[length - 1];
    if (point(wanted[i]) == point(wanted[length])) ++length;
    border[i] = length;
  }
  for (std::size_t i = from, length = 0; i < text.size(); ++i) {
    while (length > 0 && point(text[i]) != point(wanted[length])) length = border[length - 1];
    if (point(text[i]) == point(wanted[length])) ++length;
    if (length == wanted.size()) return i + 1 - length;
  }
  return nowhere;
}

}  // namespace

std::size_t find_text(TextView text, TextView wanted, std::size_t from) {
  constexpr std::size_t short_enough = 32;
  if (from > text.size() || text.size() - from < wanted.size()) return nowhere;
  return wanted.size() <= short_enough ? text.find(wanted, from) : find_long(text, wanted, from);
}

std::size_t find_last_text(TextView text, TextView wanted) {
  Text backwards(text.rbegin(), text.rend());
  const Text wanted_backwards(wanted.rbegin(), wanted.rend());
  const std::size_t at = find_text(backwards, wanted_backwards);
  return at == nowhere ? nowhere : text.size() - at - wanted.size();
}

bool is_space(char32_t c) noexcept {
  return is_white_space(point(c)) || (point(c) >= 0x1C && point(c) <= 0x1F);
}

TextView strip_left(TextView text, bool (*drop)(char32_t)) {
  while (!text.empty() && drop(text.front())) text.remove_prefix(1);
  return text;
}

TextView strip_right(TextView text, bool (*drop)(char32_t)) {
  while (!text.empty() && drop(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace millrace::jinja
