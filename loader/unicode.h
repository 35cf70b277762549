// What tokenizing needs of Unicode: UTF-8 by the WHATWG rules, normal forms, two character classes.
// Pure functions, safe from any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace {

enum class Utf8Status { valid, incomplete, invalid };

struct Utf8Step {
  Utf8Status status = Utf8Status::invalid;
  std::size_t bytes = 0;    // valid: of the character; otherwise what one U+FFFD stands for
  char32_t code_point = 0;  // valid only
};

// The first character of `text`, which must not be empty. `incomplete` means that all of `text` is the beginning of a
// character; `invalid` covers the longest beginning of a character that the next byte cannot continue, at least a byte.
Utf8Step utf8_step(std::string_view text) noexcept;

// The last character of valid UTF-8, which must not be empty.
Utf8Step last_utf8_step(std::string_view text) noexcept;

void append_utf8(std::string& text, char32_t code_point);

// `text` with U+FFFD for each maximal invalid part.
std::string replace_invalid_utf8(std::string_view text);

// Moves what is decided of `bytes` to the end of `text`, with U+FFFD for what cannot become a character; the possible
// beginning of one character stays in `bytes`, and so do the first two bytes of a surrogate.
void take_utf8(std::string& bytes, std::string& text);

// For messages: in quotes, at most 64 bytes, without control characters, always valid UTF-8.
std::string in_quotes(std::string_view text);

enum class NormalForm { nfc, nfd, nfkc, nfkd };

// The normal form of valid UTF-8, in time proportional to its length but for sorting runs of combining marks.
std::string normalize(std::string_view text, NormalForm form);

// Unicode's White_Space property: with U+0085, without U+180E, U+200B and U+FEFF.
bool is_white_space(char32_t code_point) noexcept;

// A word character by Unicode's recommendation for \w (UTS 18 annex C): Alphabetic, marks, decimal digits, connector
// punctuation, join controls.
bool is_word_character(char32_t code_point) noexcept;

}  // namespace millrace
