#include "model/synthetic_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/float8.h"

namespace millrace {
namespace {

constexpr std::size_t pool_values = std::size_t{1} << 21, piece_values = std::size_t{1} << 19;
constexpr float largest_code = 448;
// The largest of 16384 normal values is about four deviations, and a quantizer makes that 448.
constexpr float code_deviation = largest_code / 4;
// One code in so many is +-448. A prime: blocks of whatever width then have one.
constexpr std::size_t peak_distance = 61;

// SplitMix64. Source: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, 2014.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // In [-1, 1).
  float uniform() noexcept { return static_cast<float>(next() >> 40) * 0x1p-23f - 1; }
  // The sum of twelve uniform numbers of 16 bits: exact, unlike what libraries make of logarithms.
  float normal() noexcept {
    std::int32_t sum = -12 * 32768 + 6;
    for (int draw = 0; draw < 3; ++draw) {
      const std::uint64_t bits = next();
      for (int shift = 0; shift < 64; shift += 16) sum += static_cast<std::int32_t>(bits >> shift & 0xffff);
    }
    return static_cast<float>(sum) * 0x1p-16f;
  }

 private:
  std::uint64_t state_;
};

// FNV-1a.
std::uint64_t hash_of(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  return hash;
}

// The code of a value that E4M3 holds exactly.
std::uint8_t code_of(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
  if (magnitude < std::bit_cast<std::uint32_t>(0x1p-6f))
    return static_cast<std::uint8_t>(sign | static_cast<std::uint32_t>(std::abs(value) * 0x1p9f));
  return static_cast<std::uint8_t>(sign | ((magnitude >> 20) - (120u << 3)));
}

std::byte fp8_code(float normal, std::size_t index) noexcept {
  const float value = index % peak_distance == 0 ? std::copysign(largest_code, normal) : normal * code_deviation;
  return std::byte{code_of(round_to_e4m3(value))};
}

std::vector<std::byte> to_bytes(const std::vector<float>& values, const SyntheticTensor& tensor) {
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(size_of(tensor.dtype)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (tensor.distribution == Distribution::fp8_codes) {
      bytes[i] = fp8_code(values[i], i);
      continue;
    }
    const float value = std::fma(values[i], tensor.deviation, tensor.mean);
    const Bfloat16 rounded = bf16_from_f32(value);
    if (tensor.dtype == Dtype::f32)
      std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
    else
      std::memcpy(bytes.data() + i * sizeof(Bfloat16), &rounded, sizeof(Bfloat16));
  }
  return bytes;
}

}  // namespace

SyntheticValues::SyntheticValues(std::uint64_t seed) : seed_(seed), normal_(pool_values), uniform_(pool_values) {
  Random random(seed);
  std::generate(normal_.begin(), normal_.end(), [&] { return random.normal(); });
  std::generate(uniform_.begin(), uniform_.end(), [&] { return random.uniform(); });
}

const std::vector<std::byte>& SyntheticValues::pool_of(const SyntheticTensor& tensor) {
  std::vector<std::byte>& pool = pools_[{tensor.dtype, tensor.distribution, tensor.mean, tensor.deviation}];
  if (pool.empty()) pool = to_bytes(tensor.distribution == Distribution::uniform ? uniform_ : normal_, tensor);
  return pool;
}

void SyntheticValues::generate(const SyntheticTensor& tensor,
                               const std::function<void(std::span<const std::byte>)>& sink) {
  const std::vector<std::byte>& pool = pool_of(tensor);
  const auto size = static_cast<std::size_t>(size_of(tensor.dtype));
  std::uint64_t left = data_bytes(tensor, "synthetic") / size;
  Random places(seed_ ^ hash_of(tensor.name));
  while (left > 0) {
    const std::size_t count = std::min<std::uint64_t>(left, piece_values);
    const std::size_t first = places.next() % (pool_values - piece_values);
    sink(std::span(pool).subspan(first * size, count * size));
    left -= count;
  }
}

}  // namespace millrace
