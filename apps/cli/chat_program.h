// ChatProgram: the conversation of `millrace chat` with whoever types or pipes messages: reads them, obeys commands,
// shows answers. Used by one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "apps/common/mtp_flag.h"
#include "apps/common/options.h"
#include "apps/common/sampling_flags.h"
#include "loader/chat_template.h"
#include "model/chat.h"
#include "model/conversation.h"

namespace millrace {

struct ChatFlags {
  EngineFlags engine;
  SamplingFlags sampling;
  MtpFlag mtp;
  std::optional<std::string> system;
  std::string thinking;                    // "on", "off" or nothing
  std::optional<std::int64_t> max_tokens;  // of one answer; none = as many as the context holds
  std::string load, save, session;         // files, or nothing; FILE.kv beside them is the session's cache
};

class ChatProgram {
 public:
  // `engine` must outlive the program. Throws Error for a model without chat template, and what --load and --session
  // throw.
  ChatProgram(const Engine& engine, const ChatFlags& flags);

  // Returns the exit code. What fails at a terminal is shown and the conversation goes on; elsewhere it is thrown.
  int run();

 private:
  struct Command;
  static const Command commands[];

  enum class Next { message, leave };

  Next handle(const std::string& text);
  Next obey(std::string_view name, const std::string& argument);
  Next ask(const std::string& text);
  void report_end(const Answer& answer) const;

  Next help(const std::string&);
  Next reset(const std::string&);
  Next set_system(const std::string& text);
  Next undo(const std::string&);
  Next stats(const std::string&);
  Next save(const std::string& path);
  Next load(const std::string& path);
  Next leave(const std::string&) { return Next::leave; }

  void load_files(const std::string& path);
  void resume(const std::string& path);
  void save_cache() const;
  void greet() const;
  void show_note(const std::string& line) const;

  const Engine& engine_;
  const ChatTemplate template_;
  const bool interactive_;
  Session session_;
  Conversation conversation_;
  AnswerRequest request_;
  std::string file_;            // of the last /save, /load, --save
  bool keeps_saving_;           // --save: after every answer
  std::optional<Answer> last_;  // for /stats
  int exit_code_ = 0;
};

}  // namespace millrace
