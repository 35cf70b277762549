// Clock: what durations are measured with. It never goes back.
#pragma once

#include <chrono>

namespace millrace {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) noexcept {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace millrace
