// Sizes of memory as people write and read them.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>

namespace millrace {

// "16G", "1.5GiB", "800M", "64MB", "1048576": units count by 1024. Throws Error(bad_argument) for anything else.
std::uint64_t parse_memory_size(const std::string& text);

// The same as a check of an option's value.
std::string check_memory_size(const std::string& text);

}  // namespace millrace
