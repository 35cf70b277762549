#include "model/stop_strings.h"

#include <algorithm>
#include <utility>

#include "model/partial_match.h"

namespace millrace {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  std::erase_if(strings_, [](const std::string& string) { return string.empty(); });
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  pending_ += text;
  std::size_t first_end = std::string::npos, begin = std::string::npos;
  for (const std::string& stop : strings_) {
    const std::size_t found = pending_.find(stop);
    if (found == std::string::npos) continue;
    const std::size_t end = found + stop.size();
    if (end < first_end || (end == first_end && found < begin)) {
      first_end = end;
      begin = found;
    }
  }
  if (first_end != std::string::npos) {
    stopped_ = true;
    return std::exchange(pending_, {}).substr(0, begin);
  }

  std::size_t held = 0;
  for (const std::string& stop : strings_) held = std::max(held, partial_match(pending_, stop));
  std::string shown = pending_.substr(0, pending_.size() - held);
  pending_.erase(0, shown.size());
  return shown;
}

std::string StopStrings::flush() {
  return std::exchange(pending_, {});
}

}  // namespace millrace
