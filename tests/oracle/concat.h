// Rows of a and b side by side.
#pragma once

#include <span>
#include <vector>

namespace millrace::oracle {

inline std::vector<float> concat(std::span<const float> a, std::span<const float> b, std::size_t rows) {
  const std::size_t first = a.size() / rows, second = b.size() / rows;
  std::vector<float> y;
  for (std::size_t i = 0; i < rows * (first + second); ++i) {
    const std::size_t row = i / (first + second), e = i % (first + second);
    y.push_back(e < first ? a[row * first + e] : b[row * second + e - first]);
  }
  return y;
}

}  // namespace millrace::oracle
