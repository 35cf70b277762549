#include "apps/common/messages.h"

#include <nlohmann/json.hpp>

#include "apps/common/input.h"
#include "runtime/error.h"

namespace millrace {

namespace {

using Json = nlohmann::ordered_json;

constexpr int deepest_json = 200;

}  // namespace

ChatRequest parse_chat_request(std::string_view text, std::string_view what) {
  const auto check_depth = [what](int depth, Json::parse_event_t, const Json&) {
    require(depth <= deepest_json, Errc::bad_argument, "{}: nested more than {} levels deep", what, deepest_json);
    return true;
  };
  const Json json = Json::parse(text, check_depth, false);
  require(!json.is_discarded(), Errc::bad_argument, "{}: not valid JSON", what);
  ChatRequest request;
  if (json.is_array()) {
    request.messages = text;
    return request;
  }
  require(json.is_object() && json.contains("messages"), Errc::bad_argument,
          "{}: expected an array of messages, or an object with \"messages\"", what);
  for (const auto& [key, value] : json.items()) {
    if (key == "messages")
      request.messages = value.dump();
    else if (key == "tools")
      request.tools = value.dump();
    else if (key == "documents")
      request.documents = value.dump();
    else if (key == "variables" || key == "chat_template_kwargs")
      request.variables = value.dump();
    else if (key == "add_generation_prompt" && value.is_boolean())
      request.add_generation_prompt = value.get<bool>();
    else
      fail(Errc::bad_argument,
           "{}: unexpected \"{}\", expected messages, tools, documents, variables, add_generation_prompt", what, key);
  }
  return request;
}

ChatRequest read_chat_request(const std::string& path) {
  return parse_chat_request(read_input(path), path == "-" ? "standard input" : path);
}

}  // namespace millrace
