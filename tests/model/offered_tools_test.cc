#include "model/offered_tools.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/errors.h"

namespace millrace {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::string tool(const Json& properties) {
  return Json{{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", {{"properties", properties}}}}}}}
      .dump();
}

// The JSON that `text` becomes for a parameter with that schema.
std::string value(const std::string& text, const char* schema, const ToolFormat& format = mimo_tool_format) {
  const OfferedTools tools(tool({{"p", Json::parse(schema)}}));
  const std::string arguments = tools.arguments("f", {{"p", text, text}}, format);
  const std::string prefix = "{\"p\": ";
  EXPECT_EQ(arguments.substr(0, prefix.size()), prefix);
  return arguments.substr(prefix.size(), arguments.size() - prefix.size() - 1);
}

TEST(OfferedTools, TextIsTypedByTheSchema) {
  EXPECT_EQ(value("7", "{\"type\": \"integer\"}"), "7");
  EXPECT_EQ(value("7", "{\"type\": \"string\"}"), "\"7\"");
  EXPECT_EQ(value("7", "{}"), "\"7\"");
  EXPECT_EQ(value("7", "true"), "\"7\"");
  EXPECT_EQ(value("Null", "{\"type\": \"string\"}"), "null");
  EXPECT_EQ(value("[1]", "{\"type\": \"object\"}"), "[1]");  // no fit, but JSON
  EXPECT_EQ(value("{\"z\": 1, \"a\": 2}", "{\"type\": \"object\"}"), "{\"z\": 1, \"a\": 2}");
  EXPECT_EQ(value("[1", "{\"type\": [\"array\", \"string\"]}"), "\"[1\"");
  EXPECT_EQ(value("x", "{\"allOf\": [{\"oneOf\": [{\"type\": \"integer\"}]}]}"), "\"x\"");
  EXPECT_EQ(value("3", "{\"allOf\": [{\"oneOf\": [{\"type\": \"integer\"}]}]}"), "3");
  EXPECT_EQ(value("2", "{\"enum\": [1, 2]}"), "2");
}

TEST(OfferedTools, Numbers) {
  const char* integer = "{\"type\": \"integer\"}";
  EXPECT_EQ(value("-9223372036854775808", integer), "-9223372036854775808");
  EXPECT_EQ(value("9223372036854775808", integer), "\"9223372036854775808\"");
  EXPECT_EQ(value("-0", integer), "0");
  EXPECT_EQ(value("+-1", integer), "\"+-1\"");
  const char* number = "{\"type\": \"number\"}";
  EXPECT_EQ(value("2.50", number), "2.5");
  EXPECT_EQ(value(".5", number), "0.5");
  EXPECT_EQ(value("5.", number), "5");
  EXPECT_EQ(value("+1E+2", number), "100");
  EXPECT_EQ(value("-0.0", number), "0");
  EXPECT_EQ(value("1e22", number), "1e+22");
  EXPECT_EQ(value("0.1", number), "0.1");
  EXPECT_EQ(value("1e-999", number), "0");
  EXPECT_EQ(value("1e999", number), "\"1e999\"");
  EXPECT_EQ(value(".", number), "\".\"");
  EXPECT_EQ(value("1e", number), "\"1e\"");
  EXPECT_EQ(value("nan", number), "\"nan\"");
  EXPECT_EQ(value("inf", number), "\"inf\"");
  EXPECT_EQ(value("0x10", number), "\"0x10\"");
}

TEST(OfferedTools, Booleans) {
  const char* boolean = "{\"type\": \"boolean\"}";
  EXPECT_EQ(value(" TRUE ", boolean), "true");
  EXPECT_EQ(value("yes", boolean), "\"yes\"");
  EXPECT_EQ(value("yes", boolean, minimax_tool_format), "true");
  EXPECT_EQ(value("Off", boolean, minimax_tool_format), "false");
  EXPECT_EQ(value("falsehood", boolean), "\"falsehood\"");
}

TEST(OfferedTools, JsonNestedTooDeepStaysText) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  EXPECT_EQ(value(deep, "{\"type\": \"array\"}"), "\"" + deep + "\"");
}

TEST(OfferedTools, ArgumentsAreAlwaysJson) {
  const OfferedTools tools(tool({}));
  const std::string text =
      tools.arguments("f", {{"a\"\n", "\x01\xff", ""}, {"b", "1", ""}, {"a\"\n", "2", ""}}, mimo_tool_format);
  EXPECT_EQ(text, "{\"a\\\"\\n\": \"2\", \"b\": \"1\"}");
  EXPECT_EQ(Json::parse(tools.arguments("f", {{"a", "\x01\xff", ""}}, mimo_tool_format))["a"], "\x01\xef\xbf\xbd");
  EXPECT_EQ(tools.arguments("f", {}, mimo_tool_format), "{}");
}

// What is passed on as the JSON it spells must be JSON inside other JSON too.
TEST(OfferedTools, OnlyWholeJsonKeepsItsSpelling) {
  EXPECT_EQ(value({"7\0\0", 3}, "{\"type\": \"number\"}"), "\"7\\u0000\\u0000\"");
  EXPECT_EQ(value("\xef\xbb\xbf[1]", "{\"type\": \"array\"}"), "\"\xef\xbb\xbf[1]\"");
}

TEST(OfferedTools, Entities) {
  EXPECT_EQ(unescape_entities("&lt;&gt;&amp;amp;&quot;&apos;"), "<>&amp;\"'");
  EXPECT_EQ(unescape_entities("&#65;&#x41;&#X1F600;"), "AA\xf0\x9f\x98\x80");
  for (const char* text : {"&", "&amp", "&#;", "&#x;", "&#0;", "&#xD800;", "&#x110000;", "&#99999999;", "&#-5;",
                           "&#6 5;", "&eacute;", "&&", "&#x0000041;"})
    EXPECT_EQ(unescape_entities(text), text);
}

TEST(OfferedTools, BadListsAreRefused) {
  const auto message = [](const char* tools) {
    return test::error_of(Errc::bad_argument, [tools] { OfferedTools offered{std::string_view(tools)}; });
  };
  EXPECT_THAT(message("{}"), HasSubstr("expected a list"));
  EXPECT_THAT(message("[{\"name\": \"a\"}, 7]"), HasSubstr("entry 1"));
  EXPECT_THAT(message("[{\"function\": {\"name\": \"\"}}]"), HasSubstr("entry 0"));
  std::string schema = "1";
  for (int i = 0; i < 1000; ++i) schema = "{\"anyOf\": [" + schema + "]}";
  EXPECT_THAT(message(("[{\"name\": \"f\", \"parameters\": {\"properties\": {\"p\": " + schema + "}}}]").c_str()),
              HasSubstr("nested"));
  EXPECT_THAT(message("[7"), HasSubstr("tools: not valid JSON"));
  EXPECT_TRUE(OfferedTools("").empty());
  EXPECT_TRUE(OfferedTools("[{\"name\": \"bare\"}]").has("bare"));
}

}  // namespace
}  // namespace millrace
