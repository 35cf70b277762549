// Reading JSON nobody vouches for: no recursion, bounded nesting and size, errors that name the file.
// Pure functions, safe from any thread; the result belongs to the caller.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace millrace {

struct JsonLimits {
  int max_depth = 64;        // arrays and objects inside each other
  bool unique_keys = false;  // a key repeated in one object is an error; otherwise the last one counts
  std::int64_t max_bytes = std::int64_t{1} << 28;  // of a file; parse_json_file only
};

// The whole of `text` as one JSON value. `what` opens every message and says where the text comes from, usually a path.
// Errors: Errc::bad_file for bad syntax, bad UTF-8, too deep nesting or a key that appears twice.
nlohmann::json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});

// The same for a file, which messages call by its path. Errors: also those of read_text_file().
nlohmann::json parse_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

}  // namespace millrace
