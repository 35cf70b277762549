// Case and classes of characters, as Python's str methods see them.
#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "loader/jinja_text.h"
#include "loader/unicode.h"

namespace millrace::jinja {
namespace {

struct FullMapping {
  char32_t from;
  std::u32string_view to;
};

// Capitals of more than one character (Unicode's SpecialCasing.txt), but for U+1F80 to U+1FAF.
constexpr std::array full_uppercase = std::to_array<FullMapping>({
    {0x00DF, U"SS"},
    {0x0149, U"\u02BCN"},
    {0x01F0, U"J\u030C"},
    {0x0390, U"\u0399\u0308\u0301"},
    {0x03B0, U"\u03A5\u0308\u0301"},
    {0x0587, U"\u0535\u0552"},
    {0x1E96, U"H\u0331"},
    {0x1E97, U"T\u0308"},
    {0x1E98, U"W\u030A"},
    {0x1E99, U"Y\u030A"},
    {0x1E9A, U"A\u02BE"},
    {0x1F50, U"\u03A5\u0313"},
    {0x1F52, U"\u03A5\u0313\u0300"},
    {0x1F54, U"\u03A5\u0313\u0301"},
    {0x1F56, U"\u03A5\u0313\u0342"},
    {0x1FB2, U"\u1FBA\u0399"},
    {0x1FB3, U"\u0391\u0399"},
    {0x1FB4, U"\u0386\u0399"},
    {0x1FB6, U"\u0391\u0342"},
    {0x1FB7, U"\u0391\u0342\u0399"},
    {0x1FBC, U"\u0391\u0399"},
    {0x1FC2, U"\u1FCA\u0399"},
    {0x1FC3, U"\u0397\u0399"},
    {0x1FC4, U"\u0389\u0399"},
    {0x1FC6, U"\u0397\u0342"},
    {0x1FC7, U"\u0397\u0342\u0399"},
    {0x1FCC, U"\u0397\u0399"},
    {0x1FD2, U"\u0399\u0308\u0300"},
    {0x1FD3, U"\u0399\u0308\u0301"},
    {0x1FD6, U"\u0399\u0342"},
    {0x1FD7, U"\u0399\u0308\u0342"},
    {0x1FE2, U"\u03A5\u0308\u0300"},
    {0x1FE3, U"\u03A5\u0308\u0301"},
    {0x1FE4, U"\u03A1\u0313"},
    {0x1FE6, U"\u03A5\u0342"},
    {0x1FE7, U"\u03A5\u0308\u0342"},
    {0x1FF2, U"\u1FFA\u0399"},
    {0x1FF3, U"\u03A9\u0399"},
    {0x1FF4, U"\u038F\u0399"},
    {0x1FF6, U"\u03A9\u0342"},
    {0x1FF7, U"\u03A9\u0342\u0399"},
    {0x1FFC, U"\u03A9\u0399"},
    {0xFB00, U"FF"},
    {0xFB01, U"FI"},
    {0xFB02, U"FL"},
    {0xFB03, U"FFI"},
    {0xFB04, U"FFL"},
    {0xFB05, U"ST"},
    {0xFB06, U"ST"},
    {0xFB13, U"\u0544\u0546"},
    {0xFB14, U"\u0544\u0535"},
    {0xFB15, U"\u0544\u053B"},
    {0xFB16, U"\u054E\u0546"},
    {0xFB17, U"\u0544\u053D"},
});

utf8proc_int32_t plain(char32_t c) noexcept {
  return static_cast<utf8proc_int32_t>(point(c));
}
char32_t simple_upper(char32_t c) noexcept {
  return static_cast<char32_t>(utf8proc_toupper(plain(c))) | mark_of(c);
}
char32_t simple_lower(char32_t c) noexcept {
  return static_cast<char32_t>(utf8proc_tolower(plain(c))) | mark_of(c);
}
char32_t simple_title(char32_t c) noexcept {
  return static_cast<char32_t>(utf8proc_totitle(plain(c))) | mark_of(c);
}

const FullMapping* full_mapping(char32_t c) noexcept {
  const auto* found = std::lower_bound(full_uppercase.begin(), full_uppercase.end(), point(c),
                                       [](const FullMapping& entry, char32_t key) { return entry.from < key; });
  return found != full_uppercase.end() && found->from == point(c) ? found : nullptr;
}

void append_upper(Text& text, char32_t c) {
  const char32_t p = point(c), mark = mark_of(c);
  if (p < 0x80) {
    text += (p >= U'a' && p <= U'z' ? p - 32 : p) | mark;
  } else if (p >= 0x1F80 && p <= 0x1FAF) {  // Greek vowels with an iota below, which becomes a capital of its own
    constexpr std::array<char32_t, 3> plain_capitals = {0x1F08, 0x1F28, 0x1F68};
    text += (plain_capitals[(p - 0x1F80) / 16] + (p & 7)) | mark;
    text += U'\u0399' | mark;
  } else if (const FullMapping* full = full_mapping(c)) {
    for (const char32_t to : full->to) text += to | mark;
  } else {
    text += simple_upper(c);
  }
}

utf8proc_category_t category(char32_t c) noexcept {
  return utf8proc_category(plain(c));
}

bool is_cased(char32_t c) noexcept {
  return is_upper(c) || is_lower(c) || is_title(c);
}

bool is_case_ignorable(char32_t c) noexcept {
  const utf8proc_category_t kind = category(c);
  const char32_t p = point(c);
  return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK || p == U'\'' || p == U'.' || p == U':' ||
         p == 0xB7 || p == 0x2019 || p == 0x2018 || p == 0x2024 || p == 0x2027;
}

bool sigma_is_final(TextView text, std::size_t at) noexcept {
  std::size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  std::size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

void append_lower(Text& result, TextView text, std::size_t at) {
  const char32_t p = point(text[at]), mark = mark_of(text[at]);
  if (p < 0x80) {
    result += (p >= U'A' && p <= U'Z' ? p + 32 : p) | mark;
  } else if (p == 0x3A3) {
    result += (sigma_is_final(text, at) ? U'\u03C2' : U'\u03C3') | mark;
  } else if (p == 0x130) {
    result += U'i' | mark;
    result += U'\u0307' | mark;
  } else {
    result += simple_lower(text[at]);
  }
}

void append_title(Text& text, char32_t c) {
  if (const FullMapping* full = full_mapping(c); full != nullptr && simple_title(c) == c) {
    text += full->to[0] | mark_of(c);
    for (const char32_t rest : full->to.substr(1)) text += simple_lower(rest) | mark_of(c);
  } else {
    text += simple_title(c);
  }
}

}  // namespace

Text upper(TextView text) {
  Text result;
  result.reserve(text.size());
  for (const char32_t c : text) append_upper(result, c);
  return result;
}

Text lower(TextView text) {
  Text result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) append_lower(result, text, i);
  return result;
}

Text title(TextView text) {
  Text result;
  bool in_word = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (in_word)
      append_lower(result, text, i);
    else
      append_title(result, text[i]);
    in_word = is_cased(text[i]);
  }
  return result;
}

Text capitalize(TextView text) {
  Text result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 0)
      append_title(result, text[i]);
    else
      append_lower(result, text, i);
  }
  return result;
}

Text swap_case(TextView text) {
  Text result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_upper(text[i]))
      append_lower(result, text, i);
    else if (is_lower(text[i]))
      append_upper(result, text[i]);
    else
      result += text[i];
  }
  return result;
}

bool is_alpha(char32_t c) noexcept {
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL || kind == UTF8PROC_CATEGORY_LT ||
         kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) noexcept {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

// Superscripts and circled figures have no category of their own.
bool is_digit(char32_t c) noexcept {
  constexpr std::array<std::array<char32_t, 2>, 20> others = {
      {{0xB2, 0xB3},     {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},   {0x2070, 0x2070},
       {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247C},   {0x2488, 0x2490},
       {0x24EA, 0x24EA}, {0x24F5, 0x24FD},   {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},
       {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}}};
  return is_decimal(c) || std::any_of(others.begin(), others.end(),
                                      [p = point(c)](const auto& range) { return p >= range[0] && p <= range[1]; });
}

bool is_upper(char32_t c) noexcept {
  const char32_t p = point(c);
  return category(c) == UTF8PROC_CATEGORY_LU || (p >= 0x2160 && p <= 0x216F) || (p >= 0x24B6 && p <= 0x24CF) ||
         (p >= 0x1F130 && p <= 0x1F149) || (p >= 0x1F150 && p <= 0x1F169) || (p >= 0x1F170 && p <= 0x1F189);
}

bool is_lower(char32_t c) noexcept {
  const char32_t p = point(c);
  return category(c) == UTF8PROC_CATEGORY_LL || p == 0xAA || p == 0xBA || (p >= 0x2170 && p <= 0x217F) ||
         (p >= 0x24D0 && p <= 0x24E9) || (p >= 0x2B0 && p <= 0x2B8) || (p >= 0x2C0 && p <= 0x2C1) ||
         (p >= 0x2E0 && p <= 0x2E4) || (p >= 0x1D2C && p <= 0x1D6A);
}

bool is_title(char32_t c) noexcept {
  return category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_printable(char32_t c) noexcept {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return point(c) == U' ';
    default:
      return true;
  }
}

bool is_identifier_start(char32_t c) noexcept {
  return is_alpha(c) || point(c) == U'_' || category(c) == UTF8PROC_CATEGORY_NL;
}

bool is_word(char32_t c) noexcept {
  const utf8proc_category_t kind = category(c);
  return is_alpha(c) || kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO ||
         point(c) == U'_';
}

}  // namespace millrace::jinja
