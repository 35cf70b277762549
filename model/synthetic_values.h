// SyntheticValues: the data of synthetic tensors at the speed of memory. Values are drawn once into pools; a tensor is
// a sequence of pieces of a pool from places that follow from the seed, the tensor's name and the number of the piece,
// so that it holds the same bytes whatever else is written. The same on every machine. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "model/synthetic_tensors.h"

namespace millrace {

class SyntheticValues {
 public:
  explicit SyntheticValues(std::uint64_t seed);

  // Hands the data of `tensor` to `sink`, in pieces that are valid during the call.
  void generate(const SyntheticTensor& tensor, const std::function<void(std::span<const std::byte>)>& sink);

 private:
  using PoolKey = std::tuple<Dtype, Distribution, float, float>;

  const std::vector<std::byte>& pool_of(const SyntheticTensor& tensor);

  std::uint64_t seed_;
  std::vector<float> normal_, uniform_;  // of mean 0 and deviation 1; in [-1, 1)
  std::map<PoolKey, std::vector<std::byte>> pools_;
};

}  // namespace millrace
