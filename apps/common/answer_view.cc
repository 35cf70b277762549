#include "apps/common/answer_view.h"

#include "apps/common/output.h"

namespace millrace {

std::string without_controls(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c0 = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    // U+0080 to U+009F
    const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (c1) ++i;
    if (!c0 && !c1) result += text[i];
  }
  return result;
}

void AnswerView::show(const OutputEvent& event) {
  if (terminal_) {
    show_on_terminal(event);
  } else if (event.kind == OutputEvent::Kind::content) {
    begun_ = true;
    write(event.text);
  }
}

void AnswerView::show_on_terminal(const OutputEvent& event) {
  std::string text = without_controls(event.text);
  if (event.kind == OutputEvent::Kind::reasoning) {
    if (!in_reasoning_) {
      write(colours_ ? "\033[2m" : "[thinking]\n");
      text.erase(0, text.find_first_not_of('\n'));
    }
    in_reasoning_ = true;
    write(text);
  } else if (event.kind == OutputEvent::Kind::content) {
    // An empty line is enough between the reasoning and the answer.
    if (!begun_) text.erase(0, text.find_first_not_of('\n'));
    if (text.empty()) return;
    if (in_reasoning_) {
      if (colours_) write("\033[22m");
      if (!at_line_start_) write("\n");
      write(colours_ ? "\n" : "[answer]\n");
      in_reasoning_ = false;
    }
    begun_ = true;
    write(text);
  }
}

void AnswerView::finish() {
  if (in_reasoning_ && colours_) write("\033[22m");
  if (!at_line_start_ || (!terminal_ && !begun_)) write_output("\n");
}

void AnswerView::write(std::string_view text) {
  if (text.empty()) return;
  write_output(text);
  if (!text.starts_with('\033')) at_line_start_ = text.ends_with('\n');
}

}  // namespace millrace
