// Any bytes as a model's answer: taken apart the same way however it is cut, never more text than came in, and the
// arguments of every call are JSON. The first byte chooses family, prompt and tools, the second how the rest is cut.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "model/output_parser.h"

namespace {

using namespace millrace;

void check(bool condition) {
  if (!condition) std::abort();
}

const OfferedTools& offered() {
  static const OfferedTools tools(R"([{"function": {"name": "f", "parameters": {"properties": {
      "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"}, "o": {"type": "object"},
      "a": {"anyOf": [{"type": "array"}, {"enum": [1, "x", null]}]}, "s": {"type": "string"}, "u": {"type": "blob"}}}}}])");
  return tools;
}

struct Parsed {
  std::string reasoning, content, calls;

  void add(const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
      if (event.kind == OutputEvent::Kind::reasoning) reasoning += event.text;
      if (event.kind == OutputEvent::Kind::content) content += event.text;
      if (event.kind == OutputEvent::Kind::tool_call) calls += event.name + event.text + '\n';
      if (event.kind == OutputEvent::Kind::tool_call) check(nlohmann::json::accept(event.text));
    }
  }
  bool operator==(const Parsed&) const = default;
};

// `text` in pieces of pseudo-random sizes up to `most`.
Parsed parse(std::uint8_t kind, std::string_view text, std::size_t most, std::uint32_t seed) {
  static const OfferedTools none;
  static constexpr std::string_view prompts[] = {"", "<think>\n", "<think></think>\n\n", "x"};
  OutputParser parser((kind & 1) != 0 ? mimo_tool_format : minimax_tool_format, prompts[(kind >> 1) & 3],
                      (kind & 8) != 0 ? none : offered());
  Parsed parsed;
  while (!text.empty()) {
    seed = seed * 1664525 + 1013904223;
    const std::string_view piece = text.substr(0, 1 + (seed >> 16) % most);
    parsed.add(parser.push(piece));
    text.remove_prefix(piece.size());
  }
  parsed.add(parser.flush());
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Parsed whole = parse(data[0], text, size, 0);
  check(whole.reasoning.size() + whole.content.size() <= text.size());
  check(parse(data[0], text, 1, 0) == whole);
  check(parse(data[0], text, 1 + data[1] % 32, data[1]) == whole);
  return 0;
}
