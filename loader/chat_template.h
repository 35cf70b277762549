// ChatTemplate: a conversation as the text a model was trained on, by the checkpoint's own Jinja template, as
// Transformers' apply_chat_template() renders it. What the template's author wrote and what came in with the request
// stay apart, so that nothing a user writes can become a special token. Immutable once open, safe from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loader/tokenizer.h"

namespace millrace {

// JSON as clients send it; all of it counts as data. The order of keys is kept and shown to the template.
struct ChatRequest {
  std::string messages;   // an array of objects such as {"role": "user", "content": "Hello"}
  std::string tools;      // an array, or empty for none
  std::string documents;  // an array, or empty for none
  std::string variables;  // an object with what else the template may ask for: {"enable_thinking": false}; or empty
  bool add_generation_prompt = true;  // ends with the beginning of an answer
  std::optional<std::tm> now;         // what strftime_now() shows; default: the local time
};

// The rendering: parts in turn written by the template's author or taken from the request.
struct RenderedPart {
  std::string text;  // UTF-8
  bool from_template = true;
};

struct RenderedChat {
  std::vector<RenderedPart> parts;

  std::string text() const;
  // Added tokens are recognized only where every character comes from the template; otherwise the ids are those of
  // the whole text. No beginning-of-text token is added: templates write it themselves.
  std::vector<std::int32_t> encode(const Tokenizer& tokenizer) const;
};

class ChatTemplate {
 public:
  // The template of a checkpoint's folder: chat_template.jinja, else chat_template.json, else "chat_template" in
  // tokenizer_config.json, a text or a list of named ones, of which `name` chooses one. Errors: Errc::not_found if
  // there is none, TemplateError for one that cannot be read, those of parse_json_file().
  static ChatTemplate open(const std::filesystem::path& folder, std::string_view name = "default");
  // Whether open() would find one.
  static bool exists(const std::filesystem::path& folder);
  // From its source; `name` opens messages. `special_tokens` are variables that count as the template's own text:
  // {"bos_token", "<s>"}. Errors: TemplateError.
  static ChatTemplate parse(std::string_view source, const std::string& name,
                            std::vector<std::pair<std::string, std::string>> special_tokens = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // Errors: TemplateError (jinja_error.h) naming template and line, with the message of the template's
  // raise_exception() where it refuses the conversation, and for templates that take too long or too much memory;
  // Errc::bad_argument for a request that is not the JSON described above.
  RenderedChat render(const ChatRequest& request) const;

 private:
  struct State;
  explicit ChatTemplate(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

}  // namespace millrace
