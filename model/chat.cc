#include "model/chat.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "loader/json.h"
#include "loader/tokenizer.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// Parses what generate() streams, and collects it.
class AnswerReader {
 public:
  AnswerReader(OutputParser parser, const std::function<bool(const OutputEvent&)>& on_event, Answer& answer)
      : parser_(std::move(parser)), on_event_(on_event), answer_(answer) {}

  bool push(std::string_view text) { return take(parser_.push(text)); }
  void flush() { take(parser_.flush()); }

 private:
  bool take(const std::vector<OutputEvent>& events) {
    bool wanted = true;
    for (const OutputEvent& event : events) {
      if (event.kind == OutputEvent::Kind::reasoning) answer_.reasoning += event.text;
      if (event.kind == OutputEvent::Kind::content) answer_.content += event.text;
      if (event.kind == OutputEvent::Kind::tool_call) answer_.calls.push_back({event.name, event.text});
      if (on_event_) wanted = on_event_(event) && wanted;
    }
    return wanted;
  }

  OutputParser parser_;
  const std::function<bool(const OutputEvent&)>& on_event_;
  Answer& answer_;
};

// The template's variables with enable_thinking among them.
std::string with_thinking(const std::string& variables, bool thinking) {
  nlohmann::json object = nlohmann::json::object();
  if (!variables.empty()) object = parse_json(variables, "variables");
  require(object.is_object(), Errc::bad_argument, "variables: {}, expected an object", object.type_name());
  object["enable_thinking"] = thinking;
  return object.dump();
}

}  // namespace

ChatPrompt chat_prompt(const Engine& engine, const ChatTemplate& chat_template, const AnswerRequest& request) {
  ChatRequest chat = request.chat;
  if (request.thinking) chat.variables = with_thinking(chat.variables, *request.thinking);
  RenderedChat rendered = chat_template.render(chat);
  const ToolFormat& format = engine.tool_format();
  if (request.thinking == false && stripped(rendered.text(), tool_blank).ends_with(format.think_open))
    rendered.parts.push_back({std::string(format.think_close) + "\n\n", /*from_template=*/true});
  return {.text = rendered.text(), .ids = rendered.encode(engine.tokenizer())};
}

Answer answer(Session& session, const ChatTemplate& chat_template, const AnswerRequest& request,
              const std::function<bool(const OutputEvent& event)>& on_event) {
  const Engine& engine = session.engine();
  const OfferedTools tools(request.chat.tools);
  const ChatPrompt prompt = chat_prompt(engine, chat_template, request);
  const std::int64_t size = std::ssize(prompt.ids);
  require(size > 0, Errc::bad_argument, "the chat template makes an empty prompt of this conversation");
  require(size < engine.context(), Errc::bad_argument,
          "the conversation has {} tokens, which leaves no room for an answer: the context holds {}", size,
          engine.context());

  const std::int64_t reused = session.keep_beginning_of(prompt.ids);

  Answer result;
  result.prompt_tokens = size;
  result.reused_tokens = reused;
  AnswerReader reader(OutputParser(engine.tool_format(), prompt.text, tools), on_event, result);
  const GenerateResult generated =
      generate(session, std::span(prompt.ids).subspan(static_cast<std::size_t>(reused)), request.generation,
               [&reader](std::string_view text) { return reader.push(text); });
  reader.flush();
  result.finish_reason = generated.finish_reason;
  result.timings = generated.timings;
  result.tokens = std::ssize(generated.ids);
  result.context_full =
      generated.finish_reason == FinishReason::length && result.tokens < request.generation.max_tokens;
  return result;
}

}  // namespace millrace
