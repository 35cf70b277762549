// What a stream must hold back because more text may complete a marker. Pure function, safe from any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace millrace {

// Bytes of the longest end of `text` that is a beginning of `marker`, but not all of it.
inline std::size_t partial_match(std::string_view text, std::string_view marker) noexcept {
  if (marker.empty()) return 0;
  std::size_t size = std::min(marker.size() - 1, text.size());
  while (size > 0 && !text.ends_with(marker.substr(0, size))) --size;
  return size;
}

}  // namespace millrace
