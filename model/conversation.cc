#include "model/conversation.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "loader/atomic_file.h"
#include "loader/json.h"
#include "loader/text_file.h"
#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view format_name = "millrace-conversation-1";
constexpr std::int64_t max_file_bytes = std::int64_t{1} << 28;

bool is_from(const Json& message, std::string_view role) {
  return message.at("role").get_ref<const std::string&>() == role;
}

bool has_system(const Json& messages) {
  return !messages.empty() && is_from(messages.front(), "system");
}

void check_message(const Json& message, std::size_t index, const std::string& path) {
  const auto is_text = [&message](const char* key) { return message.contains(key) && message.at(key).is_string(); };
  require(message.is_object(), Errc::bad_file, "{}: message {} is no object", path, index);
  constexpr std::array<std::string_view, 4> roles = {"system", "user", "assistant", "tool"};
  require(
      is_text("role") && std::find(roles.begin(), roles.end(), message.at("role").get<std::string>()) != roles.end(),
      Errc::bad_file, "{}: message {} has no role, expected system, user, assistant or tool", path, index);
  require(is_text("content"), Errc::bad_file, "{}: message {} has no content, expected a text", path, index);
  require(is_text("reasoning_content") || !message.contains("reasoning_content"), Errc::bad_file,
          "{}: reasoning_content of message {} is no text", path, index);
}

}  // namespace

Conversation::Conversation() : messages_(std::make_unique<Json>(Json::array())) {}
Conversation::Conversation(const Conversation& other) : messages_(std::make_unique<Json>(*other.messages_)) {}
Conversation::Conversation(Conversation&&) noexcept = default;
Conversation::~Conversation() = default;

Conversation& Conversation::operator=(Conversation other) noexcept {
  messages_.swap(other.messages_);
  return *this;
}

std::string Conversation::messages() const {
  return messages_->dump();
}

std::string Conversation::system() const {
  if (!has_system(*messages_)) return {};
  return messages_->front().at("content").get<std::string>();
}

void Conversation::set_system(std::string_view text) {
  if (has_system(*messages_)) messages_->erase(0);
  if (!text.empty())
    messages_->insert(messages_->begin(), Json{{"role", "system"}, {"content", replace_invalid_utf8(text)}});
}

void Conversation::add_user(std::string_view text) {
  messages_->push_back({{"role", "user"}, {"content", replace_invalid_utf8(text)}});
}

void Conversation::add_assistant(std::string_view content, std::string_view reasoning) {
  Json message = {{"role", "assistant"}, {"content", replace_invalid_utf8(content)}};
  if (!reasoning.empty()) message["reasoning_content"] = replace_invalid_utf8(reasoning);
  messages_->push_back(std::move(message));
}

std::int64_t Conversation::exchanges() const {
  return std::count_if(messages_->begin(), messages_->end(),
                       [](const Json& message) { return is_from(message, "user"); });
}

std::string Conversation::last_question() const {
  for (std::size_t i = messages_->size(); i-- > 0;)
    if (is_from((*messages_)[i], "user")) return (*messages_)[i].at("content").get<std::string>();
  return {};
}

bool Conversation::undo() {
  for (std::size_t i = messages_->size(); i-- > 0;) {
    if (!is_from((*messages_)[i], "user")) continue;
    while (messages_->size() > i) messages_->erase(messages_->size() - 1);
    return true;
  }
  return false;
}

void Conversation::clear() {
  const std::string text = system();
  *messages_ = Json::array();
  set_system(text);
}

void Conversation::save(const std::filesystem::path& path) const {
  const Json contents = {{"format", format_name}, {"messages", *messages_}};
  const std::string text = contents.dump(1) + "\n";
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.finish();
}

Conversation Conversation::load(const std::filesystem::path& path) {
  const std::string text = read_text_file(path, max_file_bytes), name = path.string();
  parse_json(text, name);  // bounds the nesting
  const Json contents = Json::parse(text);
  require(contents.is_object() && contents.contains("format") && contents.at("format") == format_name, Errc::bad_file,
          "{}: not a conversation: \"format\" is not \"{}\"", name, format_name);
  require(contents.contains("messages") && contents.at("messages").is_array(), Errc::bad_file,
          "{}: no list of messages", name);
  Conversation conversation;
  *conversation.messages_ = contents.at("messages");
  for (std::size_t i = 0; i < conversation.messages_->size(); ++i) check_message((*conversation.messages_)[i], i, name);
  return conversation;
}

}  // namespace millrace
