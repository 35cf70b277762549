// AnswerView: how an answer of a chat looks on standard output. On a terminal the reasoning is shown dimmed before the
// answer, and nothing the model writes can steer the terminal; elsewhere only the answers' own text appears, as it is.
// Used by one thread.
#pragma once

#include <string>
#include <string_view>

#include "model/output_parser.h"

namespace millrace {

class AnswerView {
 public:
  AnswerView(bool terminal, bool colours) : terminal_(terminal), colours_(terminal && colours) {}

  // Shows a piece as it comes.
  void show(const OutputEvent& event);
  // The end of the answer: ends the line.
  void finish();

 private:
  void show_on_terminal(const OutputEvent& event);
  void write(std::string_view text);

  bool terminal_, colours_;
  bool in_reasoning_ = false;
  bool at_line_start_ = true;
  bool begun_ = false;  // the answer itself
};

// `text`, valid UTF-8, without control characters other than line ends and tabs.
std::string without_controls(std::string_view text);

}  // namespace millrace
