#include "loader/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "loader/jinja_error.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<std::int32_t>;
using testing::HasSubstr;

const std::filesystem::path demo = std::filesystem::path(test::source_dir()) / "apps/demo/millrace-demo";

std::string render(std::string_view source, const std::string& messages, const std::string& variables = "") {
  return ChatTemplate::parse(source, "test.jinja").render({.messages = messages, .variables = variables}).text();
}

// What came from the request is shown in brackets.
std::string origins(std::string_view source, const std::string& messages, const std::string& variables = "") {
  std::string shown;
  for (const RenderedPart& part :
       ChatTemplate::parse(source, "test.jinja").render({.messages = messages, .variables = variables}).parts)
    shown += part.from_template ? part.text : "[" + part.text + "]";
  return shown;
}

Ids added_tokens(const Tokenizer& tokenizer, const Ids& ids) {
  Ids added;
  for (const std::int32_t id : ids)
    if (tokenizer.is_added(id)) added.push_back(id);
  return added;
}

TEST(ChatTemplate, TheDemoModelsTemplate) {
  const ChatTemplate chat = ChatTemplate::open(demo);
  const Tokenizer tokenizer = Tokenizer::open(demo);
  std::ifstream file(test::golden("demo/chat_template.json"));
  for (const Json& entry : Json::parse(file)) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    Json options = entry["options"];
    ChatRequest request{.messages = entry["messages"].dump(), .add_generation_prompt = false};
    if (entry.contains("tools")) request.tools = entry["tools"].dump();
    if (options.contains("add_generation_prompt")) request.add_generation_prompt = options["add_generation_prompt"];
    options.erase("add_generation_prompt");
    request.variables = options.dump();
    const RenderedChat rendered = chat.render(request);
    EXPECT_EQ(rendered.text(), entry["expected"]);
    EXPECT_EQ(rendered.encode(tokenizer), entry["expected_ids"].get<Ids>());
  }
}

// The ids of ordinary conversations are those of their whole text: borders of parts are no borders of tokens.
TEST(ChatTemplate, PartsAreTokenizedAsOneText) {
  for (const auto& [name, cases] : {std::pair{"qwen2-like", "mimo"}, std::pair{"o200k-like", "minimax"}}) {
    const Tokenizer tokenizer = Tokenizer::open(test::golden("text") / name);
    const ChatTemplate chat = ChatTemplate::open(test::golden("text") / name);
    std::ifstream file(test::golden("text/templates") / (std::string(cases) + ".cases.json"));
    const Json entries = Json::parse(file);
    int compared = 0;
    for (const Json& entry : entries["cases"]) {
      if (!entry.contains("expected")) continue;
      SCOPED_TRACE(entry["name"].get<std::string>());
      ChatRequest request{.messages = entry["messages"].dump(),
                          .add_generation_prompt = entry.value("add_generation_prompt", false)};
      if (entry.contains("tools")) request.tools = entry["tools"].dump();
      if (entry.contains("variables")) request.variables = entry["variables"].dump();
      const RenderedChat rendered = chat.render(request);
      EXPECT_EQ(rendered.text(), entry["expected"]);
      bool ordinary = true;
      for (const RenderedPart& part : rendered.parts)
        ordinary = ordinary && (part.from_template || added_tokens(tokenizer, tokenizer.encode(part.text)).empty());
      if (!ordinary) continue;
      EXPECT_EQ(rendered.encode(tokenizer), tokenizer.encode(rendered.text()));
      ++compared;
    }
    EXPECT_GT(compared, 25) << name;
  }
}

// Whatever users write, the added tokens are those of the same conversation without it.
TEST(ChatTemplate, NothingFromTheRequestBecomesAnAddedToken) {
  for (const char* name : {"qwen2-like", "o200k-like"}) {
    const Tokenizer tokenizer = Tokenizer::open(test::golden("text") / name);
    const ChatTemplate chat = ChatTemplate::open(test::golden("text") / name);
    const auto request = [](const std::string& words) {
      const Json messages = {
          {{"role", "system"}, {"content", "s" + words}},
          {{"role", "user"}, {"content", words + "u"}, {"name", words}},
          {{"role", "assistant"},
           {"content", "a" + words},
           {"tool_calls",
            {{{"type", "function"}, {"function", {{"name", "f" + words}, {"arguments", {{"k" + words, words}}}}}}}}},
          {{"role", "tool"}, {"content", "t" + words}},
          {{"role", "user"}, {"content", {{{"type", "text"}, {"text", words}}}}}};
      const Json tools = {{{"type", "function"},
                           {"function",
                            {{"name", "f" + words},
                             {"description", words},
                             {"parameters", {{"type", "object"}, {"properties", {{words, {{"type", words}}}}}}}}}}};
      return ChatRequest{.messages = messages.dump(), .tools = tools.dump()};
    };
    const Ids expected = added_tokens(tokenizer, chat.render(request("x")).encode(tokenizer));
    EXPECT_GT(expected.size(), 8U);
    for (std::int32_t id = 0; id < tokenizer.size(); ++id) {
      if (!tokenizer.is_added(id)) continue;
      const std::string words(tokenizer.token_text(id));
      if (words.find("think>") != std::string::npos) continue;  // the templates look for these themselves
      EXPECT_EQ(added_tokens(tokenizer, chat.render(request(words)).encode(tokenizer)), expected) << words;
    }
  }
}

TEST(ChatTemplate, AnAddedTokenNeedsEveryCharacterFromTheTemplate) {
  const Tokenizer tokenizer = Tokenizer::open(test::golden("text/qwen2-like"));
  const std::string messages = R"([{"role": "user", "content": "<|im_end|>", "half": "im_end", "part": "<|im_"}])";
  const auto added = [&](std::string_view source) {
    const ChatTemplate chat = ChatTemplate::parse(source, "test.jinja");
    return added_tokens(tokenizer, chat.render({.messages = messages}).encode(tokenizer)).size();
  };
  EXPECT_EQ(added("<|im_end|>{{ messages[0].content }}"), 1U);
  EXPECT_EQ(added("<|{{ messages[0].half }}|>"), 0U);
  EXPECT_EQ(added("{{ messages[0].part }}end|>"), 0U);
  EXPECT_EQ(added("{{ '<|im_' ~ 'end|>' }}"), 1U);
  EXPECT_EQ(added("{{ messages[0].content | replace('<|im_end|>', '<|im_end|>') }}"), 1U);
  EXPECT_EQ(added("{{ messages[0].content | trim | upper | lower | string | safe }}"), 0U);
  EXPECT_EQ(added("{{ messages | tojson }}{{ messages }}{{ messages[0].content | list | join }}"), 0U);
  EXPECT_EQ(added("{{ '%s' | format(messages[0].content) }}{{ '{}'.format(messages[0].content) }}"), 0U);
  EXPECT_EQ(added("{% for c in messages[0].content %}{{ c }}{% endfor %}"), 0U);
  EXPECT_EQ(added("{% set x %}{{ messages[0].content }}{% endset %}{{ x }}{{ x[::-1][::-1] }}{{ x[:3] + x[3:] }}"), 0U);
  EXPECT_EQ(added("{% macro m(t) %}{{ t }}{% endmacro %}{{ m(messages[0].content) | indent }}"), 0U);
  EXPECT_EQ(added("{{ messages[0].content.split('x')[0] }}{{ messages[0].content.replace('z', 'q') }}"), 0U);
  EXPECT_EQ(added("{{ '%c' | format(60) }}|im_end|>"), 0U);
}

TEST(ChatTemplate, EveryCharacterKnowsWhereItCameFrom) {
  const std::string messages = R"([{"role": "user", "content": "a b", "n": 3, "yes": true, "list": [1, "x"]}])";
  EXPECT_EQ(origins("{{ messages[0].content }}!", messages), "[a b]!");
  EXPECT_EQ(origins("{{ messages[0].n + 1 }} {{ 1 + 1 }}", messages), "[4] 2");
  EXPECT_EQ(origins("{{ messages[0].yes }}{{ true }}", messages), "[True]True");
  EXPECT_EQ(origins("{{ messages[0].list }}{{ [1] }}", messages), "[[1, 'x']][1]");
  EXPECT_EQ(origins("{{ messages[0].list | tojson }}", messages), "[[1, \"x\"]]");
  EXPECT_EQ(origins("{{ messages[0].content.split() | join('-') }}", messages), "[a]-[b]");
  EXPECT_EQ(origins("{{ 'x' if messages[0].yes }}{{ messages[0].content | length }}", messages), "x3");
  EXPECT_EQ(origins("{{ messages[0].content | replace(' ', '--') }}", messages), "[a]--[b]");
  EXPECT_EQ(origins("{{ messages[0].content | title ~ '%5s' % messages[0].n }}", messages), "[A B]    [3]");
  EXPECT_EQ(origins("{% for k in messages[0] %}{{ k }},{% endfor %}", messages), "[role],[content],[n],[yes],[list],");
  EXPECT_EQ(origins("{% for k in dict(**messages[0]) %}{{ k[0] }}{% endfor %}", messages), "[rcnyl]");
  EXPECT_EQ(origins("{% macro m() %}{{ kwargs.keys() | join }}{% endmacro %}{{ m(**{'a': 1}) }}", messages), "a");
  EXPECT_EQ(origins("{{ range(messages[0].n) | last }}{{ range(3) | last }}", messages), "[2]2");
  EXPECT_EQ(origins("{{ strftime_now(more) }}", messages, R"({"more": "x%%"})"), "[x%]");
}

TEST(ChatTemplate, FindsTheTemplateOfAFolder) {
  const test::TempFolder folder;
  EXPECT_FALSE(ChatTemplate::exists(folder.path()));
  EXPECT_THROW(ChatTemplate::open(folder.path()), Error);
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>"}, "eos_token": null, "chat_template": "{{ bos_token }}one"})");
  EXPECT_TRUE(ChatTemplate::exists(folder.path()));
  EXPECT_EQ(ChatTemplate::open(folder.path()).render({.messages = "[]"}).text(), "<s>one");
  folder.write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "two"},
                                                              {"name": "rag", "template": "three"}]})");
  EXPECT_EQ(ChatTemplate::open(folder.path()).render({.messages = "[]"}).text(), "two");
  EXPECT_EQ(ChatTemplate::open(folder.path(), "rag").render({.messages = "[]"}).text(), "three");
  try {
    ChatTemplate::open(folder.path(), "none");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::not_found);
    EXPECT_THAT(error.what(), HasSubstr("\"rag\""));
  }
  folder.write("chat_template.jinja", "four\n");
  EXPECT_EQ(ChatTemplate::open(folder.path()).render({.messages = "[]"}).text(), "four");
}

TEST(ChatTemplate, MessagesKeepTheirOrderAndTheirNumbers) {
  const std::string messages = R"([{"z": 1, "a": 123456789012345678901234567890, "b": 1.0, "z": 2}])";
  EXPECT_EQ(render("{{ messages }}", messages), "[{'z': 2, 'a': 123456789012345678901234567890, 'b': 1.0}]");
  EXPECT_EQ(render("{{ messages[0].reasoning_content }}", R"([{"thinking": "hm"}])"), "hm");
  EXPECT_EQ(render("{{ tools }} {{ documents }} {{ add_generation_prompt }}", "[]"), "None None True");
}

TEST(ChatTemplate, RequestsThatAreNoneAreRefused) {
  const ChatTemplate chat = ChatTemplate::parse("x", "test.jinja");
  const std::string deep(300, '[');
  for (const std::string messages : {"", "{}", "[1]", "[{\"a\": }]", "null", "[\"\xFF\"]", deep.c_str()}) {
    try {
      chat.render({.messages = messages});
      ADD_FAILURE() << messages;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_argument) << error.what();
    }
  }
  EXPECT_THROW(chat.render({.messages = "[]", .tools = "{}"}), Error);
  EXPECT_THROW(chat.render({.messages = "[]", .variables = "[]"}), Error);
}

TEST(ChatTemplate, RefusalsCarryTheTemplatesOwnWords) {
  try {
    render("\n{{ raise_exception('No ' ~ messages[0].role) }}", R"([{"role": "wizard"}])");
    ADD_FAILURE();
  } catch (const TemplateError& error) {
    EXPECT_TRUE(error.raised());
    EXPECT_EQ(error.code(), Errc::bad_argument);
    EXPECT_EQ(error.detail(), "No wizard");
    EXPECT_STREQ(error.what(), "test.jinja: line 2: No wizard");
  }
}

}  // namespace
}  // namespace millrace
