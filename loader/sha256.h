// SHA-256 (FIPS 180-4), to tell which configuration a dump belongs to.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// The digest as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view data);

}  // namespace millrace
