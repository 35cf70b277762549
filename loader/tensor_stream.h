// TensorStream: the data of tensors in an order known beforehand, read around the page cache ahead of whoever takes
// them, so that reading and converting overlap. Owns its reader, some megabytes of memory and what it gave out as
// views. One thread takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "loader/load_linear.h"

namespace millrace {

class TensorStream final : public ByteSource {
 public:
  // A stream takes `buffer_bytes` beside views, at least so much. Conversions come in bursts, which more of it evens
  // out: with four times the least the disk hardly waits.
  static constexpr std::size_t least_buffer_bytes = std::size_t{16} << 20;

  // The ranges' tensors must outlive the stream. `parallel` may be null. Begins to read.
  TensorStream(std::vector<TensorRange> order, const Parallel* parallel, std::size_t buffer_bytes = least_buffer_bytes);
  ~TensorStream();

  // Each the next range of the order; any other is read at once and through the page cache. Throws Error(io) naming
  // file and tensor.
  std::span<const std::byte> view(const StoredTensor& tensor, std::uint64_t begin, std::uint64_t count) const override;
  void copy(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> target) const override;

  // Ends the life of all views.
  void drop_views() noexcept;

 private:
  class Worker;
  std::unique_ptr<Worker> worker_;
};

}  // namespace millrace
