// Seeded values for tests: the same on every machine.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace millrace::test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  // Uniform in [low, high), from the engine's bits alone (standard distributions differ between libraries).
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(static_cast<double>(engine_() >> 11) * 0x1p-53);
  }
  // Roughly normal with deviation 1: twelve uniform numbers.
  float normal() {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
    return sum;
  }
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(bound));
  }

  std::vector<float> normals(std::int64_t count, float deviation = 1) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = deviation * normal();
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace millrace::test
