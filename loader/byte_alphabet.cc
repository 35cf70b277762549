#include "loader/byte_alphabet.h"

#include <array>

#include "loader/unicode.h"

namespace millrace {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> letter_of{};
  std::array<std::int16_t, 256 + 68> byte_of{};  // by code point; -1 = no letter
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte_of.fill(-1);
  char32_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    alphabet.letter_of[byte] = stands_for_itself(byte) ? byte : next++;
    alphabet.byte_of[alphabet.letter_of[byte]] = static_cast<std::int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet alphabet = make_alphabet();

}  // namespace

std::string byte_letter(std::uint8_t byte) {
  std::string letter;
  append_utf8(letter, alphabet.letter_of[byte]);
  return letter;
}

std::optional<std::string> bytes_of_letters(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.status != Utf8Status::valid || step.code_point >= alphabet.byte_of.size()) return std::nullopt;
    const std::int16_t byte = alphabet.byte_of[step.code_point];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    text.remove_prefix(step.bytes);
  }
  return bytes;
}

}  // namespace millrace
