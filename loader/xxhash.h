// XXH64 with seed 0 (Collet, the xxHash specification), to tell whether a large file is damaged at the speed it is
// read. Against those who damage on purpose there is Sha256.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace {

// The digest of data that come piece by piece. A plain value; one thread at a time.
class XxHash64 {
 public:
  void add(std::string_view data) noexcept;
  // The digest of what was added so far, as 16 lower-case hexadecimal digits.
  std::string hex() const;

 private:
  static constexpr std::size_t stripe_bytes = 32;

  // 0 + prime 1 + prime 2, 0 + prime 2, 0, 0 - prime 1
  std::array<std::uint64_t, 4> lanes_ = {0x60EA27EEADC0B5D6, 0xC2B2AE3D27D4EB4F, 0, 0x61C8864E7A143579};
  std::uint64_t bytes_ = 0;
  std::array<char, stripe_bytes> pending_{};  // the first bytes_ % stripe_bytes of a stripe
};

}  // namespace millrace
