#include "model/output_parser.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/family.h"
#include "tests/support/golden.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

// What a whole answer was taken apart into.
struct Parsed {
  std::string reasoning, content;
  std::vector<std::pair<std::string, std::string>> calls;

  void add(const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
      if (event.kind == OutputEvent::Kind::reasoning) reasoning += event.text;
      if (event.kind == OutputEvent::Kind::content) content += event.text;
      if (event.kind == OutputEvent::Kind::tool_call) calls.emplace_back(event.name, event.text);
    }
  }
};

const ToolFormat& format_named(const std::string& family) {
  return family == "mimo" ? mimo_tool_format : minimax_tool_format;
}

// Cuts `text` at the ends of characters.
std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> pieces;
  for (const char c : text)
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80)
      pieces.back() += c;
    else
      pieces.emplace_back(1, c);
  return pieces;
}

std::vector<std::string> pieces_at(const std::string& text, const std::vector<std::size_t>& offsets) {
  std::vector<std::string> pieces;
  std::size_t begin = 0;
  for (std::size_t end : offsets) {
    pieces.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  pieces.push_back(text.substr(begin));
  return pieces;
}

struct Case {
  Json json;
  OfferedTools tools;

  // Feeds the pieces; after each, exactly what its progress says must have come out.
  void check(const std::vector<std::string>& pieces) const {
    OutputParser parser(format_named(json["family"]), json["prompt_ends_with"].get<std::string>(), tools);
    Parsed parsed;
    std::size_t fed = 0, row = 0;
    const Json& progress = json["progress"];
    std::array<std::size_t, 3> certain = {};
    for (const std::string& piece : pieces) {
      parsed.add(parser.push(piece));
      fed += piece.size();
      for (; row < progress.size() && progress[row][0] <= fed; ++row)
        certain = {progress[row][1], progress[row][2], progress[row][3]};
      ASSERT_EQ(parsed.reasoning.size(), certain[0]) << "after " << fed << " bytes";
      ASSERT_EQ(parsed.content.size(), certain[1]) << "after " << fed << " bytes";
      ASSERT_EQ(parsed.calls.size(), certain[2]) << "after " << fed << " bytes";
    }
    parsed.add(parser.flush());
    EXPECT_EQ(parsed.reasoning, json["reasoning"]);
    EXPECT_EQ(parsed.content, json["content"]);
    Json calls = Json::array();
    for (const auto& [name, arguments] : parsed.calls)
      calls.push_back({{"name", name}, {"arguments", Json::parse(arguments)}});
    EXPECT_EQ(calls.dump(), json["tool_calls"].dump());
  }
};

TEST(OutputParser, GoldensCutInEveryWay) {
  std::ifstream file(test::golden("text/output-parsing/output-parsing.json"));
  const Json goldens = Json::parse(file);
  int cases = 0;
  for (const Json& json : goldens["cases"]) {
    SCOPED_TRACE(json["family"].get<std::string>() + ": " + json["name"].get<std::string>());
    const Case one{json, OfferedTools(json["tools_offered"] ? goldens["tools"].dump() : "")};
    const std::string text = json["text"];
    one.check({text});
    one.check(characters(text));
    for (const Json& offsets : json["splits"]) one.check(pieces_at(text, offsets));
    for (std::size_t cut = 0; cut <= text.size(); ++cut)
      if (cut == text.size() || (static_cast<unsigned char>(text[cut]) & 0xC0) != 0x80)
        one.check(pieces_at(text, {cut}));
    ++cases;
  }
  EXPECT_EQ(cases, 88);
}

TEST(OutputParser, EventsKeepTheirOrder) {
  const OfferedTools tools("[{\"name\": \"ping\"}]");
  OutputParser parser(mimo_tool_format, "<think></think>", tools);
  const auto events = parser.push("a<tool_call><function=ping></function></tool_call>b");
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].text, "a");
  EXPECT_EQ(events[1].name, "ping");
  EXPECT_EQ(events[1].text, "{}");
  EXPECT_EQ(events[2].text, "b");
}

// Endless or adversarial output: each of these would not end in a test's lifetime if it took quadratic time.
TEST(OutputParser, TimeIsProportionalToTheText) {
  const OfferedTools tools("[{\"name\": \"ping\"}]");
  const auto repeated = [](std::string_view text, std::size_t count) {
    std::string result;
    for (std::size_t i = 0; i < count; ++i) result += text;
    return result;
  };
  constexpr std::size_t many = 20000;
  for (const ToolFormat* format : {&mimo_tool_format, &minimax_tool_format}) {
    const std::string open(format->block_open), close(format->block_close), call(format->call_open),
        parameter(format->parameter_open);
    const std::string ping = call + "ping" + std::string(format->call_name_end);
    for (const std::string& text :
         {repeated(" ", many), repeated("\n", many), repeated("x\n", many), repeated("<", many),
          repeated("<think>", many), repeated(open, many), repeated(open + close, many),
          open + repeated(ping, many) + close, open + repeated(call, many) + close,
          open + ping + repeated(parameter, many) + std::string(format->call_close) + close,
          open + repeated(ping + std::string(format->call_close), many) + close, open + repeated("</", many)})
      for (const std::string prompt : {"", "<think>", "</think>"}) {
        OutputParser whole(*format, prompt, tools), pieces(*format, prompt, tools);
        Parsed at_once, one_by_one;
        at_once.add(whole.push(text));
        at_once.add(whole.flush());
        for (const char& c : text) one_by_one.add(pieces.push({&c, 1}));
        one_by_one.add(pieces.flush());
        EXPECT_EQ(at_once.reasoning, one_by_one.reasoning);
        EXPECT_EQ(at_once.content, one_by_one.content);
        EXPECT_EQ(at_once.calls, one_by_one.calls);
        EXPECT_LE(at_once.reasoning.size() + at_once.content.size(), text.size());
      }
  }
}

TEST(OutputParser, ManyParametersTakeTimeProportionalToThem) {
  const OfferedTools tools("[{\"name\": \"ping\"}]");
  std::string text = "<tool_call><function=ping>";
  for (int i = 0; i < 200000; ++i) text += "<parameter=p" + std::to_string(i) + ">1</parameter>";
  OutputParser parser(mimo_tool_format, "</think>", tools);
  const auto events = parser.push(text + "</function></tool_call>");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_TRUE(events[0].text.ends_with("\"p199999\": \"1\"}"));
}

TEST(OutputParser, BlocksAreBounded) {
  const OfferedTools tools("[{\"name\": \"ping\"}]");
  const std::string block = "<tool_call>" + std::string(OutputParser::max_block_bytes - 12, 'x') + "\xc3\xa9";
  const std::string text = block + "<function=ping></function></tool_call>!";
  for (const std::size_t size : {std::size_t{65535}, std::size_t{999}, text.size()}) {
    OutputParser parser(mimo_tool_format, "</think>", tools);
    std::string content;
    for (std::size_t at = 0; at < text.size(); at += size)
      for (const OutputEvent& event : parser.push(text.substr(at, size))) {
        EXPECT_EQ(event.kind, OutputEvent::Kind::content);
        EXPECT_NE(event.text.back(), '\xc3') << "half a character";
        content += event.text;
      }
    EXPECT_TRUE(parser.flush().empty());
    EXPECT_TRUE(content == text);
  }
}

}  // namespace
}  // namespace millrace
