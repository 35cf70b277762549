// Reading a small file whole. Safe from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace millrace {

// The bytes of a regular file. Errors: not_found if it is not there, io if it cannot be read, bad_file if it is no
// regular file or longer than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, std::int64_t max_bytes);

}  // namespace millrace
