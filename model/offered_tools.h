// OfferedTools: the functions a model was told of, and what the text of a call's parameters means by their JSON
// schemas. Immutable, safe from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/tool_format.h"

namespace millrace {

class OfferedTools {
 public:
  OfferedTools() = default;
  // `tools` as chat templates take them: the JSON of a list of {"type": "function", "function": {"name", "parameters":
  // SCHEMA}}, or of functions alone; an empty text is none. Throws Error(bad_argument) naming the entry for anything
  // else.
  explicit OfferedTools(std::string_view tools);

  bool empty() const noexcept { return functions_.empty(); }
  bool has(std::string_view function) const { return functions_.find(function) != functions_.end(); }

  // The arguments of a call as one JSON object in the order of their first appearance; of a repeated one the last value
  // counts. A value is null if its text is, in any case; otherwise of the first type the schema names that its text
  // fits, of integer, number, boolean, object and array, string; what fits none is the JSON it spells, or its text.
  // `function` must be offered.
  std::string arguments(std::string_view function, const std::vector<ToolElement>& parameters,
                        const ToolFormat& format) const;

 private:
  using Types = std::uint8_t;  // a set of Type, see the source
  using Parameters = std::map<std::string, Types, std::less<>>;
  std::map<std::string, Parameters, std::less<>> functions_;
};

// `text` with &amp; &lt; &gt; &quot; &apos; and numeric entities replaced, once; others stay as they are.
std::string unescape_entities(std::string_view text);

}  // namespace millrace
