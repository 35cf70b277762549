// GPT-2's byte alphabet: one printable character for each byte, in which byte-level vocabularies are written.
// Printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in order. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

// The letter of a byte, in UTF-8.
std::string byte_letter(std::uint8_t byte);

// The bytes a text stands for; none if a character of it is no letter of the alphabet.
std::optional<std::string> bytes_of_letters(std::string_view text);

}  // namespace millrace
