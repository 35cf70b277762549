#include "model/tool_format.h"

namespace millrace {
namespace {

// The elements of `text`, as the regular expression open([^q]+)name_end(.*?)close finds them, q being the first
// character of name_end and a dot any character.
std::vector<ToolElement> find_elements(std::string_view text, std::string_view open, std::string_view name_end,
                                       std::string_view close) {
  constexpr std::size_t none = std::string_view::npos;
  std::vector<ToolElement> found;
  for (std::size_t begin = text.find(open); begin != none;) {
    const std::size_t name = begin + open.size(), stop = text.find(name_end.front(), name);
    if (stop == none) break;
    if (stop == name || text.substr(stop, name_end.size()) != name_end) {
      begin = text.find(open, begin + 1);
      continue;
    }
    const std::size_t body = stop + name_end.size(), end = text.find(close, body);
    // Without this one no later element can be whole either.
    if (end == none) break;
    const std::size_t after = end + close.size();
    found.push_back({stripped(text.substr(name, stop - name), tool_blank), text.substr(body, end - body),
                     text.substr(begin, after - begin)});
    begin = text.find(open, after);
  }
  return found;
}

}  // namespace

const ToolFormat mimo_tool_format = {.think_open = "<think>",
                                     .think_close = "</think>",
                                     .block_open = "<tool_call>",
                                     .block_close = "</tool_call>",
                                     .call_open = "<function=",
                                     .call_name_end = ">",
                                     .call_close = "</function>",
                                     .parameter_open = "<parameter=",
                                     .parameter_name_end = ">",
                                     .parameter_close = "</parameter>",
                                     .escapes_values = true};

const ToolFormat minimax_tool_format = {.think_open = "<think>",
                                        .think_close = "</think>",
                                        .block_open = "<minimax:tool_call>",
                                        .block_close = "</minimax:tool_call>",
                                        .call_open = "<invoke name=\"",
                                        .call_name_end = "\">",
                                        .call_close = "</invoke>",
                                        .parameter_open = "<parameter name=\"",
                                        .parameter_name_end = "\">",
                                        .parameter_close = "</parameter>",
                                        .block_ends_reasoning = true,
                                        .drops_newlines = true,
                                        .loose_booleans = true};

std::string_view stripped(std::string_view text, std::string_view dropped) noexcept {
  const std::size_t begin = text.find_first_not_of(dropped);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(dropped) - begin + 1);
}

std::vector<ToolElement> find_calls(std::string_view text, const ToolFormat& format) {
  return find_elements(text, format.call_open, format.call_name_end, format.call_close);
}

std::vector<ToolElement> find_parameters(std::string_view text, const ToolFormat& format) {
  return find_elements(text, format.parameter_open, format.parameter_name_end, format.parameter_close);
}

}  // namespace millrace
