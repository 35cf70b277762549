// OutputParser: takes a model's answer apart while it is generated: reasoning, content, tool calls, by its family's
// ToolFormat. What comes out does not depend on how the text is cut into pieces, and nothing given out is taken back:
// text that may still become a marker, and white space that a tool block would swallow, is held back. Time and memory
// are proportional to the text. Used by one thread; the tools must outlive it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/offered_tools.h"
#include "model/tool_format.h"

namespace millrace {

struct OutputEvent {
  enum class Kind { reasoning, content, tool_call };
  Kind kind = Kind::content;
  std::string text;  // of reasoning and content; of a tool call the arguments, a JSON object
  std::string name;  // of a tool call: the function
};

class OutputParser {
 public:
  // A tool block of more bytes is text.
  static constexpr std::size_t max_block_bytes = std::size_t{16} << 20;

  // `prompt_end` is the end of the rendered prompt: it says whether the answer starts inside the reasoning, after it,
  // or decides itself. Without tools offered, calls are text.
  OutputParser(const ToolFormat& format, std::string_view prompt_end, const OfferedTools& tools);

  // Appends whole characters and returns what they make certain, in order.
  std::vector<OutputEvent> push(std::string_view text);
  // The end of the text: what was held back. An unfinished tool block is content.
  std::vector<OutputEvent> flush();

 private:
  enum class State { undecided, opened, reasoning, content, block };

  bool step();
  bool start_reasoning();
  bool continue_reasoning();
  bool continue_content();
  bool continue_block();
  std::string_view rest() const { return std::string_view(buffer_).substr(at_); }
  std::string_view take(std::size_t count);
  std::size_t held_suffix() const;

  void add_reasoning(std::string_view text);
  void add_content(std::string_view text);
  void add_block(std::string_view block);
  std::string_view released() const;
  void emit_trimmed(OutputEvent::Kind kind, std::string_view text);
  void emit(OutputEvent::Kind kind, std::string_view text);

  const ToolFormat& format_;
  const OfferedTools& tools_;
  State state_;
  std::string buffer_;  // text of no known meaning yet begins at at_
  std::size_t at_ = 0;
  std::size_t searched_ = 0;  // bytes of rest() that need not be looked at again
  std::string held_;          // white space that belongs to the text only if more text follows
  bool edge_ = true;          // nothing but white space since the beginning or the last block
  bool after_block_ = false, after_reasoning_ = false, reasoning_begun_ = false;
  std::vector<OutputEvent> events_;
};

}  // namespace millrace
