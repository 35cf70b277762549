// ScratchCarver: the layout of an operator's scratch memory, written once for its size and its places.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/buffer.h"

namespace millrace {

// Hands out aligned pieces of `memory`, one behind the other; without memory (null) it only counts. Not owning.
class ScratchCarver {
 public:
  explicit ScratchCarver(std::byte* memory) noexcept : memory_(memory) {}

  template <class T>
  T* take(std::int64_t count) noexcept {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += Buffer::aligned(static_cast<std::size_t>(count) * sizeof(T));
    return reinterpret_cast<T*>(piece);
  }
  std::size_t used() const noexcept { return used_; }  // bytes

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

}  // namespace millrace
