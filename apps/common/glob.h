// Patterns over step names: '*' stands for any run of characters (dots too), '?' for one, the rest for itself.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

bool glob_match(std::string_view pattern, std::string_view name) noexcept;
bool is_glob(std::string_view pattern) noexcept;

// Up to `count` of `names` that differ from `wanted` in the fewest characters, nearest first.
std::vector<std::string> nearest_names(std::string_view wanted, std::span<const std::string> names, std::size_t count);

}  // namespace millrace
