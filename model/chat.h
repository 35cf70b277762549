// One answer of a chat: messages -> prompt -> tokens -> reasoning, content and tool calls. What the session already
// holds of the prompt is not computed again. Free of state beside the session; runs on the session's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loader/chat_template.h"
#include "model/generate.h"
#include "model/output_parser.h"

namespace millrace {

struct AnswerRequest {
  ChatRequest chat;              // messages, tools, variables
  std::optional<bool> thinking;  // none = what the template does by itself
  GenerateOptions generation;
};

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object
};

struct Answer {
  std::string reasoning, content;
  std::vector<ToolCall> calls;
  FinishReason finish_reason = FinishReason::length;
  bool context_full = false;       // why it ended by length
  std::int64_t prompt_tokens = 0;  // of the whole conversation, as rendered
  std::int64_t reused_tokens = 0;  // of them, those the session held already
  std::int64_t tokens = 0;         // drawn
  GenerateTimings timings;
};

struct ChatPrompt {
  std::string text;
  std::vector<std::int32_t> ids;
};

// The prompt for an answer to the messages. `thinking` is the template's variable enable_thinking; where a template
// opens the reasoning all the same, false closes it. Throws what ChatTemplate::render() and the tokenizer throw.
ChatPrompt chat_prompt(const Engine& engine, const ChatTemplate& chat_template, const AnswerRequest& request);

// Answers. `on_event` receives what is certain, in order; false ends the answer. It may be empty. The session may hold
// anything before; afterwards it holds the part that it shared with the prompt, the rest of the prompt, and what was
// drawn. Throws Error(bad_argument) where the conversation leaves no room in the context or the tools are impossible,
// and what chat_prompt() and generate() throw; the session stays usable.
Answer answer(Session& session, const ChatTemplate& chat_template, const AnswerRequest& request,
              const std::function<bool(const OutputEvent& event)>& on_event);

}  // namespace millrace
