// Buffer: owning, aligned, zeroed memory; large ones lie on 2 MiB pages that are taken when first touched, their last
// part on small ones. Move-only.
#pragma once

#include <cstddef>
#include <utility>

namespace millrace {

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
  return (bytes + unit - 1) / unit * unit;
}

class Buffer {
 public:
  static constexpr std::size_t alignment = 64;
  // Bytes up to where the next piece of a buffer may begin.
  static constexpr std::size_t aligned(std::size_t bytes) noexcept { return round_up(bytes, alignment); }

  Buffer() = default;
  // Throws Error(out_of_memory) naming `what` if the machine refuses.
  Buffer(std::size_t bytes, const char* what);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // Memory that a buffer of so many bytes takes, once it has been written to.
  static std::size_t footprint(std::size_t bytes) noexcept;

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace millrace
