#include "apps/common/memory_size.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "runtime/error.h"

namespace millrace {
namespace {

// The factor of "", "K", "KB", "KiB", ... in any case; 0 for anything else.
double factor_of(std::string_view unit) {
  constexpr std::string_view letters = "KMGT";
  if (unit.empty() || unit == "B" || unit == "b") return 1;
  const std::size_t power = letters.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
  std::string rest(unit.substr(1));
  std::transform(rest.begin(), rest.end(), rest.begin(), [](unsigned char c) { return std::tolower(c); });
  if (power == letters.npos || (!rest.empty() && rest != "b" && rest != "ib")) return 0;
  return std::exp2(10.0 * static_cast<double>(power + 1));
}

}  // namespace

std::uint64_t parse_memory_size(const std::string& text) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  const double bytes = failure == std::errc() ? value * factor_of({end, text.data() + text.size()}) : 0;
  require(bytes >= 1 && bytes < 1e18, Errc::bad_argument, "'{}', expected a size of memory such as 16G or 800M", text);
  return static_cast<std::uint64_t>(bytes);
}

std::string check_memory_size(const std::string& text) {
  try {
    parse_memory_size(text);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace millrace
