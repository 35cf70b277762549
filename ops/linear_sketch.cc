#include "ops/linear_sketch.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/bfloat16.h"
#include "runtime/buffer.h"
#include "runtime/parallel.h"
#include "runtime/tensor.h"

namespace millrace {
namespace {

constexpr std::int64_t sampled_rows = 1024;  // of a large weight, for what is said of columns

float element(const Tensor& weight, std::int64_t row, std::int64_t column) noexcept {
  const std::int64_t index = row * weight.dim(1) + column;
  return weight.dtype() == Dtype::bf16 ? bf16_to_f32(weight.as<Bfloat16>()[index]) : weight.as<float>()[index];
}

// The mean of value(row, column) of each column over the rows of the sample.
template <class Value>
void column_means(const Tensor& weight, const Parallel& parallel, float* means, Value&& value) {
  const std::int64_t rows = weight.dim(0), step = std::max<std::int64_t>(1, rows / sampled_rows);
  const std::int64_t samples = (rows + step - 1) / step;
  parallel.for_range(weight.dim(1), 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t first = begin; first < end; first += 64) {
      const std::int64_t columns = std::min<std::int64_t>(64, end - first);
      double sums[64] = {};
      for (std::int64_t row = 0; row < rows; row += step)
        for (std::int64_t i = 0; i < columns; ++i) sums[i] += static_cast<double>(value(row, first + i));
      for (std::int64_t i = 0; i < columns; ++i)
        means[first + i] = static_cast<float>(sums[i] / static_cast<double>(samples));
    }
  });
}

// One row: its bits, and the factor that makes the spreads fit it best.
float sketch_row(const Tensor& weight, std::int64_t row, const float* means, const float* spreads, double squares,
                 std::uint64_t* bits) noexcept {
  const std::int64_t inputs = weight.dim(1);
  double product = 0;
  for (std::int64_t first = 0; first < inputs; first += 64) {
    std::uint64_t word = 0;
    float sums[8] = {};
    for (std::int64_t e = first; e < std::min(first + 64, inputs); ++e) {
      const float distance = element(weight, row, e) - means[e];
      word |= static_cast<std::uint64_t>(distance > 0) << (e - first);
      sums[e % 8] += std::abs(distance) * spreads[e];
    }
    bits[first / 64] = word;
    product +=
        static_cast<double>(((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7])));
  }
  return squares > 0 ? static_cast<float>(product / squares) : 0;
}

}  // namespace

std::size_t sketch_bytes(std::int64_t outputs, std::int64_t inputs) noexcept {
  const auto rows = static_cast<std::size_t>(outputs), columns = static_cast<std::size_t>(inputs);
  return Buffer::aligned(rows * ((columns + 63) / 64) * sizeof(std::uint64_t)) + (rows + 2 * columns) * sizeof(float);
}

bool can_sketch(const Tensor& weight) noexcept {
  return weight.rank() == 2 && (weight.dtype() == Dtype::bf16 || weight.dtype() == Dtype::f32);
}

LinearSketch make_sketch(const Tensor& weight, const Parallel& parallel, std::byte* memory) {
  const std::int64_t outputs = weight.dim(0), inputs = weight.dim(1), words = (inputs + 63) / 64;
  auto* bits = reinterpret_cast<std::uint64_t*>(memory);
  auto* scales = reinterpret_cast<float*>(
      memory + Buffer::aligned(static_cast<std::size_t>(outputs * words) * sizeof(std::uint64_t)));
  float *means = scales + outputs, *spreads = means + inputs;
  column_means(weight, parallel, means, [&](std::int64_t row, std::int64_t e) { return element(weight, row, e); });
  column_means(weight, parallel, spreads,
               [&](std::int64_t row, std::int64_t e) { return std::abs(element(weight, row, e) - means[e]); });
  double squares = 0;
  for (std::int64_t e = 0; e < inputs; ++e)
    squares += static_cast<double>(spreads[e]) * static_cast<double>(spreads[e]);
  parallel.for_range(outputs, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row)
      scales[row] = sketch_row(weight, row, means, spreads, squares, bits + row * words);
  });
  return {.outputs = outputs, .inputs = inputs, .bits = bits, .scales = scales, .means = means, .spreads = spreads};
}

}  // namespace millrace
