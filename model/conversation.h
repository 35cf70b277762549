// Conversation: the messages of a chat as chat templates take them, and the file they are kept in. A plain value with
// no model behind it. Used by one thread at a time.
//
// A file is {"format": "millrace-conversation-1", "messages": [{"role": ..., "content": ...}, ...]}; an answer with
// reasoning also has "reasoning_content".
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace millrace {

class Conversation {
 public:
  Conversation();
  Conversation(const Conversation& other);
  Conversation(Conversation&&) noexcept;
  Conversation& operator=(Conversation other) noexcept;
  ~Conversation();

  // The messages as JSON, a list; empty at first.
  std::string messages() const;

  // The system text; empty where the template's own holds.
  std::string system() const;
  void set_system(std::string_view text);

  // Appends a message. Bytes that are not UTF-8 become U+FFFD.
  void add_user(std::string_view text);
  void add_assistant(std::string_view content, std::string_view reasoning);

  std::int64_t exchanges() const;     // messages of the user
  std::string last_question() const;  // the last of them, or nothing
  bool undo();                        // takes back the last of them and all that follows; false if there is none
  void clear();                       // forgets everything but the system text

  // Replaces the file, whole or not at all. Throws Error(io).
  void save(const std::filesystem::path& path) const;
  // Throws Error: not_found, io, bad_file naming the file, the message and what is wrong with it.
  static Conversation load(const std::filesystem::path& path);

 private:
  std::unique_ptr<nlohmann::ordered_json> messages_;
};

}  // namespace millrace
