#include "runtime/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

Buffer::Buffer(std::size_t bytes, const char* what) : bytes_(bytes) {
  if (bytes == 0) return;
  const std::size_t unit = bytes >= huge_page ? huge_page : alignment;
  require(bytes <= SIZE_MAX / 2, Errc::out_of_memory, "{}: {} bytes asked for", what, bytes);
  const std::size_t rounded = round_up(bytes, unit);
  data_ = static_cast<std::byte*>(std::aligned_alloc(unit, rounded));
  require(data_ != nullptr, Errc::out_of_memory, "{}: the machine has no {} bytes left", what, bytes);
  if (unit == huge_page) madvise(data_, rounded, MADV_HUGEPAGE);  // a hint; failure changes nothing
  std::memset(data_, 0, rounded);
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    std::free(data_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

Buffer::~Buffer() {
  std::free(data_);
}

}  // namespace millrace
