// JSON that programs print.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace millrace {

// One line with its newline; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace millrace
