// ToolFormat: how a family writes reasoning and tool calls into its text, as data, and the reading of one tool block.
// Immutable; pure functions, safe from any thread.
#pragma once

#include <string_view>
#include <vector>

namespace millrace {

struct ToolFormat {
  std::string_view think_open, think_close;               // around the reasoning
  std::string_view block_open, block_close;               // around one or several calls
  std::string_view call_open, call_name_end, call_close;  // call_open NAME call_name_end ... call_close
  std::string_view parameter_open, parameter_name_end, parameter_close;
  // A block inside the reasoning ends it, if tools were offered; otherwise it belongs to the reasoning.
  bool block_ends_reasoning = false;
  // Newlines around the reasoning, before a block and around values are the template's; otherwise text is exact.
  bool drops_newlines = false;
  bool escapes_values = false;  // values carry HTML entities
  bool loose_booleans = false;  // 1, yes, on and 0, no, off beside true and false
};

// Xiaomi MiMo: <tool_call> <function=NAME> <parameter=KEY>VALUE</parameter> </function> </tool_call>
extern const ToolFormat mimo_tool_format;
// MiniMax M2: <minimax:tool_call> <invoke name="NAME"> <parameter name="KEY">VALUE</parameter> </invoke> ...
extern const ToolFormat minimax_tool_format;

// Blank in the sense of tool formats.
inline constexpr std::string_view tool_blank = " \t\r\n";

// `text` without the characters of `dropped` around it.
std::string_view stripped(std::string_view text, std::string_view dropped) noexcept;

// One call or parameter: `<open NAME name_end> body <close>`. Views into the text it was found in.
struct ToolElement {
  std::string_view name;  // without blanks around it
  std::string_view body;
  std::string_view whole;
};

// The whole calls of a block's inside, and the whole parameters of a call's body, in order; other text between them is
// skipped. Time proportional to the text.
std::vector<ToolElement> find_calls(std::string_view text, const ToolFormat& format);
std::vector<ToolElement> find_parameters(std::string_view text, const ToolFormat& format);

}  // namespace millrace
