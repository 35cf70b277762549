#include "loader/jinja_text.h"

#include <algorithm>
#include <cstdint>
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

// Knuth, Morris and Pratt. The place counts from `begin`; nowhere if there is none.
template <class Iterator>
std::size_t find_long(Iterator begin, Iterator end, Iterator wanted, std::size_t size) {
  std::vector<std::uint32_t> border(size, 0);
  const auto advance = [&](std::uint32_t length, char32_t c) {
    while (length > 0 && point(c) != point(wanted[length])) length = border[length - 1];
    return point(c) == point(wanted[length]) ? length + 1 : length;
  };
  for (std::size_t i = 1; i < size; ++i) border[i] = advance(border[i - 1], wanted[static_cast<std::ptrdiff_t>(i)]);
  std::uint32_t length = 0;
  for (Iterator at = begin; at != end; ++at) {
    length = advance(length, *at);
    if (length == size) return static_cast<std::size_t>(at - begin) + 1 - size;
  }
  return nowhere;
}

constexpr std::size_t short_enough = 32;  // for the plain search

}  // namespace

std::size_t find_text(TextView text, TextView wanted, std::size_t from) {
  if (from > text.size() || text.size() - from < wanted.size()) return nowhere;
  if (wanted.size() <= short_enough) return text.find(wanted, from);
  const std::size_t at = find_long(text.begin() + from, text.end(), wanted.begin(), wanted.size());
  return at == nowhere ? nowhere : from + at;
}

std::size_t find_last_text(TextView text, TextView wanted) {
  if (wanted.size() > text.size()) return nowhere;
  if (wanted.size() <= short_enough) return text.rfind(wanted);
  const std::size_t at = find_long(text.rbegin(), text.rend(), wanted.rbegin(), wanted.size());
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
