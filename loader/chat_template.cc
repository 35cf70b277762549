#include "loader/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loader/jinja_error.h"
#include "loader/jinja_eval.h"
#include "loader/jinja_json.h"
#include "loader/jinja_parser.h"
#include "loader/json.h"
#include "loader/text_file.h"
#include "loader/unicode.h"

namespace millrace {
namespace {

using nlohmann::json;

constexpr std::int64_t longest_file_bytes = std::int64_t{1} << 20;

using SpecialTokens = std::vector<std::pair<std::string, std::string>>;

// bos_token, eos_token, ...: each a text or an object with its "content".
SpecialTokens special_tokens_of(const json& config) {
  SpecialTokens tokens;
  if (!config.is_object()) return tokens;
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with("_token")) continue;
    const json* content = &value;
    if (value.is_object() && value.contains("content")) content = &value["content"];
    if (content->is_string()) tokens.emplace_back(key, content->get<std::string>());
  }
  return tokens;
}

struct Source {
  std::string text, name;
};

json read_optional(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? parse_json_file(path) : json();
}

std::string listed_names(const json& templates) {
  std::string names;
  for (const json& entry : templates)
    if (entry.is_object() && entry.contains("name") && entry["name"].is_string())
      names += (names.empty() ? "" : ", ") + in_quotes(entry["name"].get<std::string>());
  return names;
}

// "chat_template" of a configuration: a text, or a list of {"name": ..., "template": ...}.
std::optional<Source> source_in(const json& config, const std::filesystem::path& path, std::string_view name) {
  if (!config.is_object() || !config.contains("chat_template")) return std::nullopt;
  const json& found = config["chat_template"];
  if (found.is_null()) return std::nullopt;
  const std::string where = path.string() + ": chat_template";
  if (found.is_string()) return Source{found.get<std::string>(), where};
  require(found.is_array(), Errc::bad_file, "{}: expected a text or a list, found {}", where, found.type_name());
  for (const json& entry : found) {
    const bool fits = entry.is_object() && entry.contains("name") && entry.contains("template") &&
                      entry["name"].is_string() && entry["template"].is_string();
    require(fits, Errc::bad_file, "{}: expected objects with a name and a template", where);
    if (entry["name"].get_ref<const std::string&>() == name)
      return Source{entry["template"].get<std::string>(), where + " " + in_quotes(name)};
  }
  fail(Errc::not_found, "{}: no template is named {}, there are {}", where, in_quotes(name), listed_names(found));
}

std::optional<Source> find_source(const std::filesystem::path& folder, std::string_view name, const json& config) {
  const std::filesystem::path file = folder / "chat_template.jinja";
  if (std::filesystem::exists(file)) return Source{read_text_file(file, longest_file_bytes), file.string()};
  const std::filesystem::path older = folder / "chat_template.json";
  if (auto source = source_in(read_optional(older), older, name)) return source;
  return source_in(config, folder / "tokenizer_config.json", name);
}

}  // namespace

struct ChatTemplate::State {
  jinja::Tree tree;
  std::string name;
  SpecialTokens special_tokens;

  jinja::Context context(jinja::Heap& heap, const ChatRequest& request) const;
};

std::string RenderedChat::text() const {
  std::string text;
  for (const RenderedPart& part : parts) text += part.text;
  return text;
}

std::vector<std::int32_t> RenderedChat::encode(const Tokenizer& tokenizer) const {
  std::vector<TextPart> marked;
  for (const RenderedPart& part : parts) marked.push_back({part.text, part.from_template});
  return tokenizer.encode(marked);
}

ChatTemplate::ChatTemplate(std::unique_ptr<const State> state) : state_(std::move(state)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::open(const std::filesystem::path& folder, std::string_view name) {
  const json config = read_optional(folder / "tokenizer_config.json");
  const std::optional<Source> source = find_source(folder, name, config);
  require(source.has_value(), Errc::not_found,
          "{}: no chat template: expected chat_template.jinja, or chat_template in tokenizer_config.json",
          folder.string());
  SpecialTokens tokens = special_tokens_of(read_optional(folder / "special_tokens_map.json"));
  for (auto& token : special_tokens_of(config)) tokens.push_back(std::move(token));
  return parse(source->text, source->name, std::move(tokens));
}

bool ChatTemplate::exists(const std::filesystem::path& folder) {
  return find_source(folder, "default", read_optional(folder / "tokenizer_config.json")).has_value();
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name, SpecialTokens special_tokens) {
  return ChatTemplate(
      std::make_unique<const State>(State{jinja::parse(source, name), name, std::move(special_tokens)}));
}

namespace {

std::tm local_time() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm result{};
  localtime_r(&now, &result);
  return result;
}

jinja::Value list_or_none(jinja::Heap& heap, const std::string& text, const char* what) {
  if (text.empty()) return {};
  const jinja::Value value = jinja::value_of_json(heap, text, what);
  require(value.is(jinja::Kind::list) || value.is(jinja::Kind::none), Errc::bad_argument,
          "{}: expected a JSON array, found {}", what, jinja::type_name(value));
  return value;
}

// Transformers shows what clients call "reasoning" or "thinking" under one name.
jinja::Value with_reasoning(jinja::Heap& heap, const jinja::Value& message) {
  const jinja::Dict& old = message.get<jinja::Dict>();
  if (old.find("reasoning_content") != nullptr) return message;
  const jinja::Value* reasoning = old.find("reasoning");
  if (reasoning == nullptr) reasoning = old.find("thinking");
  if (reasoning == nullptr) return message;
  auto dict = std::make_shared<jinja::Dict>(heap);
  for (const auto& [key, value] : old.entries) dict->set(key, value);
  dict->set(heap.text("reasoning_content"), *reasoning);
  return jinja::Value::object(jinja::Kind::dict, std::shared_ptr<const jinja::Dict>(std::move(dict)), true);
}

jinja::Value messages_of(jinja::Heap& heap, const std::string& text) {
  const jinja::Value value = jinja::value_of_json(heap, text, "messages");
  require(value.is(jinja::Kind::list), Errc::bad_argument, "messages: expected a JSON array, found {}",
          jinja::type_name(value));
  std::vector<jinja::Value> messages;
  for (const jinja::Value& message : value.get<jinja::Sequence>().items) {
    require(message.is(jinja::Kind::dict), Errc::bad_argument, "messages: message {} is not a JSON object, found {}",
            messages.size() + 1, jinja::type_name(message));
    messages.push_back(with_reasoning(heap, message));
  }
  return heap.list(std::move(messages), true);
}

RenderedChat parts_of(const jinja::Text& text) {
  RenderedChat rendered;
  for (std::size_t begin = 0, end; begin < text.size(); begin = end) {
    end = begin;
    while (end < text.size() && jinja::mark_of(text[end]) == jinja::mark_of(text[begin])) ++end;
    rendered.parts.push_back(
        {jinja::to_utf8(jinja::TextView(text).substr(begin, end - begin)), jinja::mark_of(text[begin]) == 0});
  }
  return rendered;
}

}  // namespace

jinja::Context ChatTemplate::State::context(jinja::Heap& heap, const ChatRequest& request) const {
  jinja::Context context;
  context.now = request.now ? *request.now : local_time();
  for (const auto& [token, text] : special_tokens)
    context.variables.emplace_back(token, heap.text(jinja::to_text(text)));
  context.variables.emplace_back("messages", messages_of(heap, request.messages));
  context.variables.emplace_back("tools", list_or_none(heap, request.tools, "tools"));
  context.variables.emplace_back("documents", list_or_none(heap, request.documents, "documents"));
  context.variables.emplace_back("add_generation_prompt", jinja::Value::boolean(request.add_generation_prompt));
  if (request.variables.empty()) return context;
  const jinja::Value more = jinja::value_of_json(heap, request.variables, "variables");
  require(more.is(jinja::Kind::dict), Errc::bad_argument, "variables: expected a JSON object, found {}",
          jinja::type_name(more));
  for (const auto& [key, value] : more.get<jinja::Dict>().entries)
    context.variables.emplace_back(jinja::to_utf8(key.text()), value);
  return context;
}

RenderedChat ChatTemplate::render(const ChatRequest& request) const {
  jinja::Heap heap;
  jinja::Context context;
  try {
    context = state_->context(heap, request);
  } catch (const jinja::Fault& fault) {
    fail(Errc::bad_argument, "the request for {}: {}", state_->name, fault.what());
  }
  return parts_of(jinja::render(state_->tree, state_->name, heap, context));
}

}  // namespace millrace
