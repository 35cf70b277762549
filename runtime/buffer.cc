#include "runtime/buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20, small_page = 4096;

// Fresh pages on a 2 MiB boundary: the kernel zeroes each when it is first touched. Null if it refuses.
std::byte* map_pages(std::size_t bytes) {
  const std::size_t spare = bytes + huge_page;
  void* mapped = mmap(nullptr, spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(mapped);
  const std::size_t head =
      round_up(reinterpret_cast<std::uintptr_t>(begin), huge_page) - reinterpret_cast<std::uintptr_t>(begin);
  if (head > 0) munmap(begin, head);
  munmap(begin + head + bytes, huge_page - head);
  madvise(begin + head, bytes, MADV_HUGEPAGE);  // a hint; failure changes nothing
  return begin + head;
}

void release(std::byte* data, std::size_t bytes) noexcept {
  if (bytes >= huge_page)
    munmap(data, round_up(bytes, small_page));
  else
    std::free(data);
}

}  // namespace

Buffer::Buffer(std::size_t bytes, const char* what) : bytes_(bytes) {
  if (bytes == 0) return;
  require(bytes <= SIZE_MAX / 2, Errc::out_of_memory, "{}: {} bytes asked for", what, bytes);
  if (bytes >= huge_page) {
    data_ = map_pages(round_up(bytes, small_page));
  } else {
    data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, round_up(bytes, alignment)));
    if (data_ != nullptr) std::memset(data_, 0, bytes);
  }
  require(data_ != nullptr, Errc::out_of_memory, "{}: the machine has no {} bytes left", what, bytes);
}

std::size_t Buffer::footprint(std::size_t bytes) noexcept {
  return round_up(bytes, bytes >= huge_page ? small_page : alignment);
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release(data_, bytes_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

Buffer::~Buffer() {
  release(data_, bytes_);
}

}  // namespace millrace
