// A sketch of a weight (outputs, inputs): one bit per element, enough to tell which few of many outputs of a product
// are the largest (sign random projections, Charikar 2002; here without the projection, around the mean row). Element
// (o, e) is taken for
//   means[e] + scales[o] * (bit ? spreads[e] : -spreads[e])
// where means and spreads are the mean and the mean distance from it of column e, over all rows or a regular sample of
// them, the bit says that the element is above the mean, and scales[o] is the factor that fits row o best (least
// squares). This header is for kernel sources too: no containers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace {

class Parallel;
class Tensor;

// Not owning. Bit e % 64 of word e / 64 of a row; bits beyond the inputs are zero.
struct LinearSketch {
  std::int64_t outputs = 0, inputs = 0;
  const std::uint64_t* bits = nullptr;  // (outputs, row_words)
  const float* scales = nullptr;        // (outputs)
  const float* means = nullptr;         // (inputs)
  const float* spreads = nullptr;       // (inputs)

  std::int64_t row_words() const noexcept { return (inputs + 63) / 64; }
};

// Bytes of the sketch of a weight of that size.
std::size_t sketch_bytes(std::int64_t outputs, std::int64_t inputs) noexcept;

// Whether a sketch can be made of a weight: a matrix of BF16 or F32.
bool can_sketch(const Tensor& weight) noexcept;

// Makes the sketch of a weight that can_sketch() in `memory`: sketch_bytes(), aligned to 64. The same for any number of
// threads.
LinearSketch make_sketch(const Tensor& weight, const Parallel& parallel, std::byte* memory);

}  // namespace millrace
