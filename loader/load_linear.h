// The weight of a Linear, brought into the form its kernels take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loader/stored_linear.h"
#include "loader/weight_options.h"
#include "runtime/buffer.h"

namespace millrace {

struct LoadedLinear {
  Tensor tensor;          // views `memory` or the mapped file
  Buffer memory, scales;  // owned; empty where the file's bytes serve
  bool unscaled = false;  // of an FP8 weight: every scale is 1
};

// Where a weight gets the data of tensors from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Bytes [begin, begin + count) of a tensor's data, which stay as long as the source does.
  virtual std::span<const std::byte> view(const StoredTensor& tensor, std::uint64_t begin,
                                          std::uint64_t count) const = 0;
  // The bytes from `begin` on, copied.
  virtual void copy(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> target) const = 0;
};

// The mapped files as a source.
const ByteSource& mapped_bytes() noexcept;

// Reads, checks and converts:
//   F8_E4M3, MXFP4  bf16 (dequantized) with WeightFormat::bf16, else the codes with their scales; always with f32
//   BF16            as stored
//   F16, F32        bf16 in fast and hf (rounded); F32 in f32
// What needs no conversion stays in the mapped file unless the options want it resident, or its rows are not in one
// run, or lie unaligned. Throws Error(io), and Error(bad_file) naming tensor, row and column of a NaN code or a scale
// that is no number.
LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options);
LoadedLinear load_linear(const StoredLinear& stored, const WeightOptions& options, const ByteSource& source);

// What loading a weight asks its source for, in that order.
struct TensorRange {
  StoredTensor tensor;
  std::uint64_t begin = 0, count = 0;  // bytes of the tensor's data
};
std::vector<TensorRange> ranges_of(const StoredLinear& stored);

// Memory that arrange_linear() needs: none for weights that can be used where the source has them.
struct LinearRoom {
  std::uint64_t weights = 0, scales = 0;
};
LinearRoom room_of(const StoredLinear& stored, const WeightOptions& options) noexcept;

// load_linear() with another source of bytes and memory of the caller's, of exactly the sizes of room_of() and aligned
// to 64 bytes; allocates nothing. Throws what the source throws, and Error(bad_file).
Tensor arrange_linear(const StoredLinear& stored, const WeightOptions& options, const ByteSource& source,
                      std::span<std::byte> weights, std::span<std::byte> scales);

// load_linear() of a resident weight into memory of the caller's, which is aligned to 64 bytes: the tensor views it.
Tensor load_linear(const StoredLinear& stored, const WeightOptions& options, const ByteSource& source,
                   std::byte* memory);
// What that takes there, a multiple of 64 bytes.
std::uint64_t placed_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept;

// The tensor load_linear would give, over the file's unread bytes whatever its dtype: for plans, not for computing.
Tensor plan_linear(const StoredLinear& stored, const WeightOptions& options);

// Bytes of views that load_linear() asks its source for.
std::uint64_t viewed_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept;

// Bytes that loading takes beside the mapped file.
std::uint64_t owned_bytes(const StoredLinear& stored, const WeightOptions& options) noexcept;
// The same with what the buffers are rounded up to (Buffer::footprint).
std::uint64_t footprint_of(const StoredLinear& stored, const WeightOptions& options) noexcept;

}  // namespace millrace
