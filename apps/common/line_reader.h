// LineReader: the messages of a conversation, one at a time: with editing, history and pasting where a person types
// them, one a line where they come from a pipe or a file. One per process, used by one thread.
#pragma once

#include <memory>
#include <string>

namespace millrace {

class LineReader {
 public:
  enum class Kind {
    text,
    end,        // of the input; Ctrl-D at the beginning of a line
    interrupt,  // Ctrl-C at the prompt; the text is what stood there
  };
  struct Line {
    Kind kind = Kind::end;
    std::string text;
  };

  virtual ~LineReader() = default;

  // The next message, without its line end. Throws Error: io, bad_file for a line of more than 256 MiB.
  virtual Line read() = 0;

  // Lines of standard input as they are.
  static std::unique_ptr<LineReader> plain();
  // A prompt on standard error, both of which must be terminals. A pasted text is one message however many lines it
  // has, and a line that ends with a backslash goes on in the next. Throws Error(io).
  static std::unique_ptr<LineReader> editor();
};

}  // namespace millrace
