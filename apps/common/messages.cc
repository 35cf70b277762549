#include "apps/common/messages.h"

#include <map>
#include <nlohmann/json.hpp>

#include "apps/common/input.h"
#include "runtime/error.h"

namespace millrace {

namespace {

using Json = nlohmann::ordered_json;

constexpr int deepest_json = 200;

constexpr std::string_view blanks = " \t\r\n";

// The first place at or after `at` that is in no string and holds one of `ends` at the level of `at`.
std::size_t find_outside(std::string_view json, std::size_t at, std::string_view ends) {
  int depth = 0;
  bool quoted = false;
  for (; at < json.size(); ++at) {
    const char c = json[at];
    if (quoted) {
      if (c == '\\') ++at;
      quoted = c != '"';
      continue;
    }
    if (depth == 0 && ends.find(c) != ends.npos) return at;
    quoted = c == '"';
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
  }
  return at;
}

// The members of a valid, not empty JSON object with their values as written: nlohmann's would round large integers.
std::map<std::string, std::string> members_of(std::string_view object) {
  std::map<std::string, std::string> members;
  for (std::size_t at = object.find('{'); at < object.size() && object[at] != '}';) {
    const std::size_t colon = find_outside(object, at + 1, ":"), end = find_outside(object, colon + 1, ",}");
    const std::string key = Json::parse(object.substr(at + 1, colon - at - 1)).get<std::string>();
    const std::size_t begin = object.find_first_not_of(blanks, colon + 1);
    members[key] = object.substr(begin, object.find_last_not_of(blanks, end - 1) + 1 - begin);
    at = end;
  }
  return members;
}

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
  for (const auto& [key, value] : members_of(text)) {
    if (key == "messages")
      request.messages = value;
    else if (key == "tools")
      request.tools = value;
    else if (key == "documents")
      request.documents = value;
    else if (key == "variables" || key == "chat_template_kwargs")
      request.variables = value;
    else if (key == "add_generation_prompt" && json[key].is_boolean())
      request.add_generation_prompt = json[key].get<bool>();
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
