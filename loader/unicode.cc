#include "loader/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr char32_t replacement = 0xFFFD;

// What may follow the first byte of a character: how many bytes, and the bounds of the first of them (Unicode 15,
// table 3-7); these exclude overlong forms, surrogates and numbers beyond U+10FFFF.
struct Lead {
  std::size_t following = 0;
  unsigned low = 0x80, high = 0xBF;
};

Lead lead_of(unsigned byte) noexcept {
  if (byte >= 0xC2 && byte <= 0xDF) return {.following = 1};
  if (byte == 0xE0) return {.following = 2, .low = 0xA0};
  if (byte == 0xED) return {.following = 2, .high = 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {.following = 2};
  if (byte == 0xF0) return {.following = 3, .low = 0x90};
  if (byte >= 0xF1 && byte <= 0xF3) return {.following = 3};
  if (byte == 0xF4) return {.following = 3, .high = 0x8F};
  return {};
}

unsigned byte_at(std::string_view text, std::size_t i) noexcept {
  return static_cast<unsigned char>(text[i]);
}

// The reference streams, made by Python's incremental decoder, wait for the third byte of a surrogate.
bool is_half_surrogate(std::string_view text) noexcept {
  return text.size() == 2 && byte_at(text, 0) == 0xED && byte_at(text, 1) >= 0xA0 && byte_at(text, 1) <= 0xBF;
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::vector<utf8proc_int32_t> decompose(std::string_view text, utf8proc_option_t options) {
  constexpr utf8proc_ssize_t longest = 64;  // Unicode's longest full decomposition has 18 code points
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  utf8proc_int32_t parts[longest];
  int boundary = 0;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    text.remove_prefix(step.bytes);
    const auto point = static_cast<utf8proc_int32_t>(step.status == Utf8Status::valid ? step.code_point : replacement);
    const utf8proc_ssize_t count = utf8proc_decompose_char(point, parts, longest, options, &boundary);
    require(count >= 0 && count <= longest, Errc::bad_argument, "U+{:04X} cannot be normalized", point);
    points.insert(points.end(), parts, parts + count);
  }
  return points;
}

// Canonical order. The library's own is an insertion sort, quadratic on a long run of marks.
void order_marks(std::vector<utf8proc_int32_t>& points) {
  const auto rank = [](utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; };
  for (auto first = points.begin(); first != points.end();) {
    if (rank(*first) == 0) {
      ++first;
      continue;
    }
    const auto last = std::find_if(first, points.end(), [&](utf8proc_int32_t point) { return rank(point) == 0; });
    std::stable_sort(first, last, [&](utf8proc_int32_t a, utf8proc_int32_t b) { return rank(a) < rank(b); });
    first = last;
  }
}

}  // namespace

Utf8Step utf8_step(std::string_view text) noexcept {
  const unsigned first = byte_at(text, 0);
  if (first < 0x80) return {Utf8Status::valid, 1, first};
  const Lead lead = lead_of(first);
  if (lead.following == 0) return {Utf8Status::invalid, 1};
  char32_t point = first & (0x3FU >> lead.following);
  for (std::size_t i = 1; i <= lead.following; ++i) {
    if (i == text.size()) return {Utf8Status::incomplete, i};
    const unsigned byte = byte_at(text, i);
    const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : byte >= 0x80 && byte <= 0xBF;
    if (!fits) return {Utf8Status::invalid, i};
    point = point << 6 | (byte & 0x3F);
  }
  return {Utf8Status::valid, lead.following + 1, point};
}

Utf8Step last_utf8_step(std::string_view text) noexcept {
  std::size_t start = text.size() - 1;
  while (start > 0 && (byte_at(text, start) & 0xC0) == 0x80) --start;
  return utf8_step(text.substr(start));
}

void append_utf8(std::string& text, char32_t point) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6);
    put(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3F));
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.status == Utf8Status::valid)
      valid += text.substr(0, step.bytes);
    else
      append_utf8(valid, replacement);
    text.remove_prefix(step.bytes);
  }
  return valid;
}

void take_utf8(std::string& bytes, std::string& text) {
  std::string_view rest = bytes;
  std::size_t kept = 0;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.status == Utf8Status::incomplete || is_half_surrogate(rest)) {
      kept = rest.size();
      break;
    }
    if (step.status == Utf8Status::valid)
      text += rest.substr(0, step.bytes);
    else
      append_utf8(text, replacement);
    rest.remove_prefix(step.bytes);
  }
  bytes.erase(0, bytes.size() - kept);
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 64;
  std::string shown = "\"";
  shown += replace_invalid_utf8(text.substr(0, longest));
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  shown += text.size() > longest ? "...\"" : "\"";
  return shown;
}

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compose = form == NormalForm::nfc || form == NormalForm::nfkc;
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const int options =
      UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0);
  std::vector<utf8proc_int32_t> points = decompose(text, static_cast<utf8proc_option_t>(options));
  order_marks(points);
  if (compose) {
    const utf8proc_ssize_t length = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()), static_cast<utf8proc_option_t>(options));
    require(length >= 0, Errc::bad_argument, "a text of {} bytes cannot be normalized", text.size());
    points.resize(static_cast<std::size_t>(length));
  }
  std::string normal;
  normal.reserve(text.size());
  for (const utf8proc_int32_t point : points) append_utf8(normal, static_cast<char32_t>(point));
  return normal;
}

bool is_white_space(char32_t point) noexcept {
  return (point >= 0x09 && point <= 0x0D) || point == 0x20 || point == 0x85 || point == 0xA0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F ||
         point == 0x205F || point == 0x3000;
}

bool is_word_character(char32_t point) noexcept {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      break;
  }
  // The join controls, and what is Alphabetic in other categories: circled and squared letters.
  return point == 0x200C || point == 0x200D || (point >= 0x24B6 && point <= 0x24E9) ||
         (point >= 0x1F130 && point <= 0x1F149) || (point >= 0x1F150 && point <= 0x1F169) ||
         (point >= 0x1F170 && point <= 0x1F189);
}

}  // namespace millrace
