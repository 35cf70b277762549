// SHA-256 (FIPS 180-4), to tell which configuration a dump belongs to and whether a file is damaged.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace {

// The digest of data that come piece by piece.
class Sha256 {
 public:
  void add(std::string_view data);
  // The digest of what was added, as 64 lower-case hexadecimal digits; nothing more can be added then.
  std::string hex();

 private:
  static constexpr std::size_t block_bytes = 64;

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::uint64_t bytes_ = 0;
  std::array<char, block_bytes> pending_{};  // the first bytes_ % block_bytes of a block
};

// The digest of `data` as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view data);

}  // namespace millrace
