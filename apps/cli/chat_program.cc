#include "apps/cli/chat_program.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "apps/common/answer_view.h"
#include "apps/common/interrupt.h"
#include "apps/common/line_reader.h"
#include "apps/common/output.h"
#include "apps/common/prompt_progress.h"
#include "loader/checkpoint.h"
#include "runtime/error.h"

namespace millrace {
namespace {

bool terminal_has_colours() {
  const char* terminal = std::getenv("TERM");
  const char* refused = std::getenv("NO_COLOR");
  return terminal != nullptr && std::string_view(terminal) != "dumb" && (refused == nullptr || *refused == '\0');
}

// The beginning of a text, to remind someone of it.
std::string reminder(const std::string& text) {
  constexpr std::size_t longest = 60;
  std::string line = without_controls(text.substr(0, text.find('\n')));
  if (line.size() <= longest && line.size() == text.size()) return line;
  std::size_t size = std::min(line.size(), longest);
  while (size > 0 && size < line.size() && (static_cast<unsigned char>(line[size]) & 0xC0) == 0x80) --size;
  return line.substr(0, size) + "...";
}

std::string counted(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// What the session had computed, beside the conversation's own file.
std::string cache_file(const std::string& path) {
  return path + ".kv";
}

double rate(std::int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

}  // namespace

struct ChatProgram::Command {
  std::string_view name;
  const char* argument;
  const char* summary;
  Next (ChatProgram::*run)(const std::string& argument);
};

constexpr ChatProgram::Command ChatProgram::commands[] = {
    {"/help", "", "show this", &ChatProgram::help},
    {"/system", "[TEXT]", "show or set the system text; - removes it", &ChatProgram::set_system},
    {"/undo", "", "take back the last message and its answer", &ChatProgram::undo},
    {"/reset", "", "forget the conversation, keep the system text", &ChatProgram::reset},
    {"/save", "[FILE]", "write the conversation to a file, what was computed to FILE.kv", &ChatProgram::save},
    {"/load", "FILE", "go on with a conversation from a file", &ChatProgram::load},
    {"/stats", "", "speed and size of the last answer", &ChatProgram::stats},
    {"/exit", "", "leave; so do Ctrl-D and a second Ctrl-C", &ChatProgram::leave},
};

ChatProgram::ChatProgram(const Engine& engine, const ChatFlags& flags)
    : engine_(engine),
      template_(ChatTemplate::open(engine.checkpoint().path())),
      interactive_(isatty(STDIN_FILENO) != 0 && errors_are_terminal()),
      session_(engine),
      file_(flags.session.empty() ? flags.save : flags.session),
      keeps_saving_(!file_.empty()) {
  if (!flags.thinking.empty()) request_.thinking = flags.thinking == "on";
  request_.generation.max_tokens = flags.max_tokens.value_or(engine.context());
  request_.generation.sampling = flags.sampling.options(engine);
  request_.generation.interrupted = Interrupt::requested;
  request_.generation.guesses = flags.mtp.guesses();
  if (!flags.load.empty()) load_files(flags.load);
  if (!flags.session.empty()) resume(flags.session);
  if (flags.system) conversation_.set_system(*flags.system);
}

int ChatProgram::run() {
  greet();
  const auto reader = interactive_ ? LineReader::editor() : LineReader::plain();
  bool warned = false;
  for (Next next = Next::message; next == Next::message;) {
    const LineReader::Line line = reader->read();
    if (line.kind != LineReader::Kind::text) show_note("");
    if (line.kind == LineReader::Kind::end || (line.kind == LineReader::Kind::interrupt && warned)) break;
    warned = line.kind == LineReader::Kind::interrupt && line.text.empty();
    if (warned) show_note("Ctrl-C again or Ctrl-D leaves.");
    if (line.kind != LineReader::Kind::text) continue;
    try {
      next = handle(line.text);
    } catch (const Error& error) {
      if (!interactive_) throw;
      print_error(error.what());
    }
  }
  if (keeps_saving_) save_cache();
  return exit_code_;
}

ChatProgram::Next ChatProgram::handle(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string::npos) return Next::message;
  const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
  // A path is no command, nor is what follows a blank.
  if (begin > 0 || text[0] != '/' || text.find('/', 1) < end) return ask(text);
  const std::size_t argument = text.find_first_not_of(" \t\n", end);
  const std::size_t last = text.find_last_not_of(" \t\n");
  return obey(std::string_view(text).substr(0, end),
              argument == std::string::npos ? "" : text.substr(argument, last + 1 - argument));
}

ChatProgram::Next ChatProgram::obey(std::string_view name, const std::string& argument) {
  for (const Command& command : commands) {
    if (command.name != name) continue;
    require(*command.argument != '\0' || argument.empty(), Errc::bad_argument, "{} takes nothing, but '{}' follows",
            name, argument);
    return (this->*command.run)(argument);
  }
  fail(Errc::bad_argument, "there is no command {}; /help lists them, and a message may begin with a blank", name);
}

ChatProgram::Next ChatProgram::ask(const std::string& text) {
  Conversation next = conversation_;
  next.add_user(text);
  request_.chat.messages = next.messages();
  ++request_.generation.sampling.seed;  // or a question asked again would be answered alike
  AnswerView view(output_is_terminal(), terminal_has_colours());
  const Interrupt interrupt;
  PromptProgress progress(session_);
  request_.generation.observer = &progress;
  const Answer answer = millrace::answer(session_, template_, request_, [&view](const OutputEvent& event) {
    view.show(event);
    return true;
  });
  request_.generation.observer = nullptr;
  view.finish();
  last_ = answer;
  if (answer.tokens > 0) {
    next.add_assistant(answer.content, answer.reasoning);
    conversation_ = std::move(next);
    if (keeps_saving_) conversation_.save(file_);
  }
  report_end(answer);
  const bool stopped = answer.finish_reason == FinishReason::interrupted;
  // At a terminal Ctrl-C stops the answer only; a request to end, or an interrupted pipe, ends the program.
  if (!stopped || (interactive_ && Interrupt::signal() == SIGINT)) return Next::message;
  exit_code_ = Interrupt::exit_code;
  return Next::leave;
}

void ChatProgram::report_end(const Answer& answer) const {
  if (answer.context_full)
    print_note(fmt::format("The context of {} tokens is full. /undo takes back an exchange, /reset all of them.\n",
                           engine_.context()));
  else if (answer.finish_reason == FinishReason::length)
    show_note(fmt::format("Ended after {}, as -n says.", counted(answer.tokens, "token")));
  else if (answer.finish_reason == FinishReason::interrupted)
    show_note(answer.tokens > 0 ? "Stopped." : "Stopped before the answer began; the message is taken back.");
  show_note("");
}

ChatProgram::Next ChatProgram::help(const std::string&) {
  std::string text;
  for (const Command& command : commands)
    text += fmt::format("{:<16}{}\n", fmt::format("{} {}", command.name, command.argument), command.summary);
  text += "Ctrl-C stops an answer. A line that ends with \\ goes on in the next; a pasted text is one message.\n";
  print_note(text);
  return Next::message;
}

ChatProgram::Next ChatProgram::reset(const std::string&) {
  conversation_.clear();
  show_note("The conversation is forgotten.");
  return Next::message;
}

ChatProgram::Next ChatProgram::set_system(const std::string& text) {
  if (text.empty()) {
    const std::string system = conversation_.system();
    print_note(system.empty() ? "The chat template's own system text.\n" : without_controls(system) + "\n");
  } else {
    conversation_.set_system(text == "-" ? "" : text);
    show_note("The system text is set.");
  }
  return Next::message;
}

ChatProgram::Next ChatProgram::undo(const std::string&) {
  const std::string question = conversation_.last_question();
  require(conversation_.undo(), Errc::bad_argument, "there is nothing to take back");
  show_note(fmt::format("Taken back: {}", reminder(question)));
  return Next::message;
}

ChatProgram::Next ChatProgram::stats(const std::string&) {
  std::string text = fmt::format("conversation  {}, {} of {} tokens in the context\n",
                                 counted(conversation_.exchanges(), "exchange"), session_.length(), engine_.context());
  if (last_) {
    const std::int64_t computed = last_->prompt_tokens - last_->reused_tokens;
    const GenerateTimings& timings = last_->timings;
    text += fmt::format(
        "prompt        {} tokens, {} kept from before, {} in {:.2f} s, {:.1f} tokens/s\n"
        "answer        {} tokens in {:.2f} s, {:.1f} tokens/s, finished by {}\n",
        last_->prompt_tokens, last_->reused_tokens, computed, timings.prompt_seconds,
        rate(computed, timings.prompt_seconds), last_->tokens, timings.generate_seconds,
        rate(last_->tokens - 1, timings.generate_seconds), name_of(last_->finish_reason));
  }
  print_note(text);
  return Next::message;
}

ChatProgram::Next ChatProgram::save(const std::string& path) {
  require(!path.empty() || !file_.empty(), Errc::bad_argument, "/save needs the name of a file");
  if (!path.empty()) file_ = path;
  conversation_.save(file_);
  save_cache();
  show_note(fmt::format("Saved to {}.", printable(file_)));
  return Next::message;
}

ChatProgram::Next ChatProgram::load(const std::string& path) {
  require(!path.empty(), Errc::bad_argument, "/load needs the name of a file");
  load_files(path);
  file_ = path;
  show_note(fmt::format("{} loaded. The last message: {}", counted(conversation_.exchanges(), "exchange"),
                        reminder(conversation_.last_question())));
  return Next::message;
}

// The cache only saves time: without it, or with one of another model, the conversation is computed again.
void ChatProgram::load_files(const std::string& path) {
  conversation_ = Conversation::load(path);
  if (!std::filesystem::exists(cache_file(path))) return;
  try {
    session_.load(cache_file(path));
  } catch (const Error& error) {
    print_note(fmt::format("{}. The conversation is computed again.\n", printable(error.what())));
  }
}

// --session: both files are written again at the end, so neither may be anything else.
void ChatProgram::resume(const std::string& path) {
  if (std::filesystem::exists(path))
    conversation_ = Conversation::load(path);
  else
    conversation_.save(path);
  if (std::filesystem::exists(cache_file(path))) session_.load(cache_file(path));
}

void ChatProgram::save_cache() const {
  if (session_.length() > 0) session_.save(cache_file(file_));
}

void ChatProgram::greet() const {
  show_note(fmt::format("{}, a context of {} tokens. /help lists commands, Ctrl-D leaves.",
                        printable(model_name(engine_)), engine_.context()));
  if (conversation_.exchanges() > 0)
    show_note(fmt::format("{} so far. The last message: {}", counted(conversation_.exchanges(), "exchange"),
                          reminder(conversation_.last_question())));
}

// For a person at a terminal.
void ChatProgram::show_note(const std::string& line) const {
  if (interactive_) print_note(line + "\n");
}

}  // namespace millrace
