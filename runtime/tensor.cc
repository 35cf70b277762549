#include "runtime/tensor.h"

#include <algorithm>
#include <cassert>

#include "runtime/error.h"

namespace millrace {

Tensor::Tensor(Dtype dtype, std::span<const std::int64_t> shape, const void* data, BlockScales scales)
    : data_(data), rank_(static_cast<int>(shape.size())), dtype_(dtype), scales_(scales) {
  require(rank_ <= max_rank, Errc::bad_argument, "a tensor of rank {} ({}), at most {} expected", rank_,
          shape_text(shape), max_rank);
  std::copy(shape.begin(), shape.end(), shape_.begin());
}

Tensor Tensor::mxfp4(std::int64_t rows, std::int64_t columns, const void* codes, const std::uint8_t* exponents) {
  const std::array<std::int64_t, 2> shape = {rows, columns / 2};
  Tensor tensor(Dtype::u8, shape, codes);
  tensor.exponents_ = exponents;
  return tensor;
}

std::int64_t Tensor::elements() const noexcept {
  std::int64_t count = 1;
  for (std::int64_t size : shape()) count *= size;
  return count;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  assert(rank_ >= 1 && 0 <= begin && begin <= end && end <= dim(0) && !scales_ && exponents_ == nullptr);
  const std::int64_t row_bytes = dim(0) == 0 ? 0 : bytes() / dim(0);
  Tensor view = *this;
  view.shape_[0] = end - begin;
  view.data_ = as<std::byte>() + begin * row_bytes;
  return view;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace millrace
