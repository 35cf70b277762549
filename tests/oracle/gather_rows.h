// The rows of x named by `rows`, one after the other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace millrace::oracle {

inline std::vector<float> gather_rows(std::span<const float> x, std::span<const std::int32_t> rows, std::size_t width) {
  std::vector<float> y;
  for (std::int32_t row : rows)
    for (std::size_t e = 0; e < width; ++e) y.push_back(x[static_cast<std::size_t>(row) * width + e]);
  return y;
}

}  // namespace millrace::oracle
