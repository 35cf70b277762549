// Conversations that users give as JSON files. Safe from any thread.
#pragma once

#include <string>
#include <string_view>

#include "loader/chat_template.h"

namespace millrace {

// From an array of messages, or an object with "messages" and what else belongs to a request: "tools", "documents",
// and "variables" (also "chat_template_kwargs") for the template. `what` opens messages. Throws Error(bad_argument)
// for anything else.
ChatRequest parse_chat_request(std::string_view json, std::string_view what);

// The same from a file, or standard input for "-". Throws also what read_input() throws.
ChatRequest read_chat_request(const std::string& path);

}  // namespace millrace
