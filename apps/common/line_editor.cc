// The part of LineReader that edits, on libedit.
#include <histedit.h>
#include <langinfo.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "apps/common/line_reader.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr int history_size = 1000;
constexpr std::size_t max_paste = std::size_t{1} << 24;  // characters

// Keys of common terminals that libedit does not bind by itself.
constexpr std::array<std::array<const char*, 2>, 12> keys = {{{"^C", "millrace-interrupt"},
                                                              {"\\e[200~", "millrace-paste"},
                                                              {"^R", "em-inc-search-prev"},
                                                              {"\\e[3~", "ed-delete-next-char"},
                                                              {"\\e[H", "ed-move-to-beg"},
                                                              {"\\e[F", "ed-move-to-end"},
                                                              {"\\e[1~", "ed-move-to-beg"},
                                                              {"\\e[4~", "ed-move-to-end"},
                                                              {"\\e[1;5C", "em-next-word"},
                                                              {"\\e[1;5D", "ed-prev-word"},
                                                              {"\\eOH", "ed-move-to-beg"},
                                                              {"\\eOF", "ed-move-to-end"}}};

class Editor final : public LineReader {
 public:
  Editor() {
    use_utf8();
    const char* terminal = std::getenv("TERM");
    brackets_pastes_ = terminal != nullptr && std::string_view(terminal) != "dumb";
    editor_ = el_init("millrace", stdin, stderr, stderr);
    history_ = history_init();
    if (editor_ == nullptr || history_ == nullptr) {
      close();
      fail(Errc::io, "the terminal cannot be set up for editing");
    }
    HistEvent event;
    history(history_, &event, H_SETSIZE, history_size);
    history(history_, &event, H_SETUNIQUE, 1);
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 1);
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_ADDFN, "millrace-interrupt", "ends the line as interrupted", on_interrupt);
    el_set(editor_, EL_ADDFN, "millrace-paste", "inserts a pasted text with its line ends", on_paste);
    for (const auto& [key, function] : keys) el_set(editor_, EL_BIND, key, function, nullptr);
    // Pressed just after a line was read, when it is a signal again, Ctrl-C must not end the program without a word.
    struct sigaction ignored {};
    ignored.sa_handler = SIG_IGN;
    sigemptyset(&ignored.sa_mask);
    sigaction(SIGINT, &ignored, &previous_interrupt_);
  }
  ~Editor() override {
    sigaction(SIGINT, &previous_interrupt_, nullptr);
    close();
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  Line read() override {
    std::string text;
    for (continues_ = false;; continues_ = true) {
      Line line = read_line();
      text += line.text;
      if (line.kind == Kind::interrupt) return {Kind::interrupt, text};
      if (line.kind == Kind::end && !continues_) return line;
      if (line.kind == Kind::end || !text.ends_with('\\')) break;
      text.back() = '\n';
    }
    HistEvent event;
    if (!text.empty()) history(history_, &event, H_ENTER, text.c_str());
    return {Kind::text, text};
  }

 private:
  // What a terminal sends is UTF-8 today, even where nobody set a locale.
  static void use_utf8() {
    std::setlocale(LC_CTYPE, "");
    if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
  }

  static Editor& of(EditLine* line) {
    void* self = nullptr;
    el_get(line, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }

  static char* prompt(EditLine* line) {
    static char first[] = "> ", next[] = "| ";
    return of(line).continues_ ? next : first;
  }

  static unsigned char on_interrupt(EditLine* line, int) {
    const LineInfo* info = el_line(line);
    Editor& self = of(line);
    self.interrupted_ = true;
    self.interrupted_text_.assign(info->buffer, info->lastchar);
    return CC_EOF;
  }

  static unsigned char on_paste(EditLine* line, int) {
    static constexpr std::wstring_view end = L"\033[201~";
    std::wstring text;
    for (wchar_t c; !text.ends_with(end) && el_wgetc(line, &c) == 1;) {
      if (c == L'\r') c = L'\n';
      if (text.size() < max_paste || end.find(c) != end.npos) text += c;
    }
    if (text.ends_with(end)) text.resize(text.size() - end.size());
    while (text.ends_with(L'\n')) text.pop_back();
    std::erase_if(text, [](wchar_t c) { return (c < L' ' && c != L'\n' && c != L'\t') || c == 0x7f; });
    if (text.empty()) return CC_NORM;
    return el_winsertstr(line, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }

  // While a line is edited, Ctrl-C is a key and no signal, and pasted text is told from typed text.
  class EditingTerminal {
   public:
    explicit EditingTerminal(bool brackets_pastes) : brackets_pastes_(brackets_pastes) {
      known_ = tcgetattr(STDIN_FILENO, &before_) == 0;
      termios editing = before_;
      editing.c_cc[VINTR] = _POSIX_VDISABLE;
      if (known_) tcsetattr(STDIN_FILENO, TCSADRAIN, &editing);
      if (brackets_pastes_) std::fputs("\033[?2004h", stderr);
    }
    ~EditingTerminal() {
      if (brackets_pastes_) std::fputs("\033[?2004l", stderr);
      if (known_) tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
    }
    EditingTerminal(const EditingTerminal&) = delete;
    EditingTerminal& operator=(const EditingTerminal&) = delete;

   private:
    bool brackets_pastes_, known_;
    termios before_{};
  };

  Line read_line() {
    interrupted_ = false;
    const EditingTerminal terminal(brackets_pastes_);
    int count = 0;
    errno = 0;
    const char* line = el_gets(editor_, &count);
    const int failure = errno;
    if (interrupted_) return {Kind::interrupt, interrupted_text_};
    if (line == nullptr || count <= 0) {
      require(count >= 0 || failure == EIO, Errc::io, "standard input: {}", std::strerror(failure));
      return {};
    }
    std::string text(line, static_cast<std::size_t>(count));
    if (text.ends_with('\n')) text.pop_back();
    return {Kind::text, text};
  }

  void close() {
    if (editor_ != nullptr) el_end(editor_);
    if (history_ != nullptr) history_end(history_);
  }

  struct sigaction previous_interrupt_ {};
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  bool brackets_pastes_ = false;
  bool continues_ = false;    // the line goes on with one before it
  bool interrupted_ = false;  // by Ctrl-C
  std::string interrupted_text_;
};

}  // namespace

std::unique_ptr<LineReader> LineReader::editor() {
  return std::make_unique<Editor>();
}

}  // namespace millrace
