#include "ops/linear_kernels.h"
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

using Codes = xsimd::batch<std::uint8_t>;
constexpr std::int64_t vector = Codes::size;

// The smallest and the largest of some codes without their signs, place by place.
struct Extent {
  Codes least = Codes(std::uint8_t{0x7f}), most = Codes(std::uint8_t{0});

  void take(const std::uint8_t* codes) noexcept {
    const Codes magnitude = Codes::load_unaligned(codes) & Codes(std::uint8_t{0x7f});
    least = xsimd::min(least, magnitude);
    most = xsimd::max(most, magnitude);
  }
  bool has_small() const noexcept { return xsimd::any(least < Codes(std::uint8_t{0x08})); }
  bool has_nan() const noexcept { return xsimd::any(most == Codes(std::uint8_t{0x7f})); }
};

}  // namespace

bool mark_small_codes(const std::uint8_t* codes, std::int64_t columns, std::int64_t begin, std::int64_t end,
                      std::uint8_t* small_codes) noexcept {
  constexpr std::int64_t block = linear_block;
  const std::int64_t blocks = (columns + block - 1) / block, row_bytes = (blocks + 7) / 8;
  Extent all;
  for (std::int64_t row = begin; row < end; ++row) {
    std::uint8_t* marks = small_codes + row * row_bytes;
    for (std::int64_t i = 0; i < row_bytes; ++i) marks[i] = 0;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::uint8_t* run = codes + row * columns + b * block;
      const std::int64_t count = block < columns - b * block ? block : columns - b * block;
      Extent extent;
      if (count == block) {
        for (std::int64_t i = 0; i < block; i += vector) extent.take(run + i);
      } else {
        // What is missing to a vector is a number like any other: 1.
        alignas(64) std::uint8_t rest[block];
        for (std::int64_t i = 0; i < block; ++i) rest[i] = i < count ? run[i] : 0x38;
        for (std::int64_t i = 0; i < block; i += vector) extent.take(rest + i);
      }
      all.most = xsimd::max(all.most, extent.most);
      marks[b / 8] = static_cast<std::uint8_t>(marks[b / 8] | (extent.has_small() ? 1 : 0) << b % 8);
    }
  }
  return !all.has_nan();
}

}  // namespace millrace::MILLRACE_ISA
