#include "loader/xxhash.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace millrace {
namespace {

constexpr std::uint64_t prime_1 = 0x9E3779B185EBCA87, prime_2 = 0xC2B2AE3D27D4EB4F, prime_3 = 0x165667B19E3779F9,
                        prime_4 = 0x85EBCA77C2B2AE63, prime_5 = 0x27D4EB2F165667C5;

static_assert(std::endian::native == std::endian::little);

template <class Word>
std::uint64_t word_at(const char* data) noexcept {
  Word word;
  std::memcpy(&word, data, sizeof(word));
  return word;
}

std::uint64_t round_of(std::uint64_t lane, std::uint64_t word) noexcept {
  return std::rotl(lane + word * prime_2, 31) * prime_1;
}

void add_stripe(std::array<std::uint64_t, 4>& lanes, const char* stripe) noexcept {
  for (std::size_t i = 0; i < lanes.size(); ++i) lanes[i] = round_of(lanes[i], word_at<std::uint64_t>(stripe + 8 * i));
}

std::uint64_t add_tail(std::uint64_t hash, std::string_view tail) noexcept {
  for (; tail.size() >= 8; tail.remove_prefix(8))
    hash = std::rotl(hash ^ round_of(0, word_at<std::uint64_t>(tail.data())), 27) * prime_1 + prime_4;
  if (tail.size() >= 4) {
    hash = std::rotl(hash ^ word_at<std::uint32_t>(tail.data()) * prime_1, 23) * prime_2 + prime_3;
    tail.remove_prefix(4);
  }
  for (char byte : tail) hash = std::rotl(hash ^ static_cast<unsigned char>(byte) * prime_5, 11) * prime_1;
  return hash;
}

}  // namespace

void XxHash64::add(std::string_view data) noexcept {
  const std::size_t held = bytes_ % stripe_bytes;
  bytes_ += data.size();
  if (held > 0) {
    const std::size_t count = std::min(data.size(), stripe_bytes - held);
    std::copy_n(data.begin(), count, pending_.begin() + held);
    data.remove_prefix(count);
    if (held + count < stripe_bytes) return;
    add_stripe(lanes_, pending_.data());
  }
  for (; data.size() >= stripe_bytes; data.remove_prefix(stripe_bytes)) add_stripe(lanes_, data.data());
  std::copy(data.begin(), data.end(), pending_.begin());
}

std::string XxHash64::hex() const {
  std::uint64_t hash = prime_5;
  if (bytes_ >= stripe_bytes) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
    for (std::uint64_t lane : lanes_) hash = (hash ^ round_of(0, lane)) * prime_1 + prime_4;
  }
  hash = add_tail(hash + bytes_, {pending_.data(), bytes_ % stripe_bytes});
  hash = (hash ^ hash >> 33) * prime_2;
  hash = (hash ^ hash >> 29) * prime_3;
  return fmt::format("{:016x}", hash ^ hash >> 32);
}

}  // namespace millrace
