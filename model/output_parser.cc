#include "model/output_parser.h"

#include <algorithm>
#include <utility>

#include "model/partial_match.h"

namespace millrace {
namespace {

constexpr std::size_t none = std::string_view::npos;

// The bytes of `text` before its last character, if that has several bytes: the text may have been cut inside it.
std::size_t certain_characters(std::string_view text) {
  constexpr std::size_t longest_character = 4;
  std::size_t size = text.size();
  const auto byte = [&] { return static_cast<unsigned char>(text[size - 1]); };
  while (text.size() - size < longest_character - 1 && (byte() & 0xC0) == 0x80) --size;
  return byte() >= 0xC0 ? size - 1 : size;
}

}  // namespace

OutputParser::OutputParser(const ToolFormat& format, std::string_view prompt_end, const OfferedTools& tools)
    : format_(format), tools_(tools), state_(State::undecided) {
  const std::string_view end = stripped(prompt_end, tool_blank);
  if (end.ends_with(format.think_close))
    state_ = State::content;
  else if (end.ends_with(format.think_open))
    state_ = State::opened;
}

std::vector<OutputEvent> OutputParser::push(std::string_view text) {
  buffer_ += text;
  while (step()) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
  return std::exchange(events_, {});
}

std::vector<OutputEvent> OutputParser::flush() {
  if (state_ == State::opened || state_ == State::reasoning) {
    add_reasoning(take(rest().size()));
    held_.clear();
  } else {
    add_content(take(rest().size()));
  }
  if (!(edge_ && after_block_)) emit(OutputEvent::Kind::content, released());
  held_.clear();
  return std::exchange(events_, {});
}

// One transition. Returns whether another one may follow.
bool OutputParser::step() {
  switch (state_) {
    case State::undecided:
    case State::opened:
      return start_reasoning();
    case State::reasoning:
      return continue_reasoning();
    case State::content:
      return continue_content();
    case State::block:
      return continue_block();
  }
  return false;
}

// An opening tag, repeated or not, begins the reasoning and is no part of it.
bool OutputParser::start_reasoning() {
  const std::size_t start = rest().find_first_not_of(tool_blank, searched_);
  searched_ = std::min(start, rest().size());
  const std::string_view word = rest().substr(searched_);
  if (word.starts_with(format_.think_open)) {
    take(searched_ + format_.think_open.size());
    state_ = State::reasoning;
    return true;
  }
  if (format_.think_open.starts_with(word)) return false;
  searched_ = 0;
  state_ = state_ == State::undecided ? State::content : State::reasoning;
  return true;
}

bool OutputParser::continue_reasoning() {
  const std::size_t close = rest().find(format_.think_close);
  const bool blocks = format_.block_ends_reasoning && !tools_.empty();
  const std::size_t end = blocks ? std::min(close, rest().substr(0, close).find(format_.block_open)) : close;
  if (end == none) {
    std::size_t held = partial_match(rest(), format_.think_close);
    if (blocks) held = std::max(held, partial_match(rest(), format_.block_open));
    add_reasoning(take(rest().size() - held));
    return false;
  }
  add_reasoning(take(end));
  held_.clear();
  if (end == close) take(format_.think_close.size());
  state_ = State::content;
  after_reasoning_ = true;
  return true;
}

bool OutputParser::continue_content() {
  const std::size_t begin = tools_.empty() ? none : rest().find(format_.block_open);
  if (begin == none) {
    const std::size_t held = tools_.empty() ? 0 : partial_match(rest(), format_.block_open);
    add_content(take(rest().size() - held));
    return false;
  }
  add_content(take(begin));
  state_ = State::block;
  return true;
}

bool OutputParser::continue_block() {
  const std::string_view close = format_.block_close;
  const std::string_view window = rest().substr(0, max_block_bytes);
  const std::size_t end = window.find(close, searched_);
  if (end == none && window.size() < max_block_bytes) {
    searched_ = window.size() - std::min(window.size(), close.size() - 1);
    return false;
  }
  state_ = State::content;
  if (end == none)
    add_content(take(certain_characters(window)));
  else
    add_block(take(end + close.size()));
  return true;
}

// The next `count` bytes; valid until the next push.
std::string_view OutputParser::take(std::size_t count) {
  const std::string_view head = rest().substr(0, count);
  at_ += count;
  searched_ = 0;
  return head;
}

void OutputParser::add_reasoning(std::string_view text) {
  if (format_.drops_newlines && !reasoning_begun_)
    text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  if (text.empty()) return;
  reasoning_begun_ = true;
  emit_trimmed(OutputEvent::Kind::reasoning, text);
}

void OutputParser::add_content(std::string_view text) {
  if (edge_) {
    const std::size_t body = std::min(text.find_first_not_of(tool_blank), text.size());
    held_ += text.substr(0, body);
    text.remove_prefix(body);
    if (text.empty()) return;
    emit(OutputEvent::Kind::content, released());
    held_.clear();
    edge_ = false;
  }
  emit_trimmed(OutputEvent::Kind::content, text);
}

// A block with a call of an offered function; any other block is text.
void OutputParser::add_block(std::string_view block) {
  std::string_view inside = block.substr(format_.block_open.size());
  inside.remove_suffix(format_.block_close.size());
  const std::vector<ToolElement> calls = find_calls(inside, format_);
  const auto known = [this](const ToolElement& call) { return tools_.has(call.name); };
  if (std::none_of(calls.begin(), calls.end(), known)) {
    add_content(block);
    return;
  }
  held_.clear();
  edge_ = after_block_ = true;
  for (const ToolElement& call : calls) {
    if (known(call))
      events_.push_back({OutputEvent::Kind::tool_call,
                         tools_.arguments(call.name, find_parameters(call.body, format_), format_),
                         std::string(call.name)});
    else
      add_content(call.whole);
  }
}

// The held white space as content. Right after the reasoning its newlines may be the template's.
std::string_view OutputParser::released() const {
  std::string_view space = held_;
  if (format_.drops_newlines && edge_ && after_reasoning_ && !after_block_)
    space.remove_prefix(std::min(space.find_first_not_of('\n'), space.size()));
  return space;
}

// Emits what was held and the text but for newlines at its end, which are held.
void OutputParser::emit_trimmed(OutputEvent::Kind kind, std::string_view text) {
  const std::size_t size = format_.drops_newlines ? text.find_last_not_of('\n') + 1 : text.size();
  if (size > 0) {
    emit(kind, held_);
    held_.clear();
    emit(kind, text.substr(0, size));
  }
  held_ += text.substr(size);
}

void OutputParser::emit(OutputEvent::Kind kind, std::string_view text) {
  if (text.empty()) return;
  if (events_.empty() || events_.back().kind != kind)
    events_.push_back({kind, std::string(text), {}});
  else
    events_.back().text += text;
}

}  // namespace millrace
