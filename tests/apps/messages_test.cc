#include "apps/common/messages.h"

#include <gtest/gtest.h>

#include "runtime/error.h"

namespace millrace {
namespace {

TEST(Messages, AnArrayIsTheConversation) {
  const ChatRequest request = parse_chat_request(R"([{"role": "user"}])", "f");
  EXPECT_EQ(request.messages, R"([{"role": "user"}])");
  EXPECT_TRUE(request.add_generation_prompt);
}

TEST(Messages, AnObjectBringsMore) {
  const ChatRequest request = parse_chat_request(
      R"({"messages": [], "tools": [{"z": 1, "a": 2}], "chat_template_kwargs": {"x": 1}, "add_generation_prompt": false})",
      "f");
  EXPECT_EQ(request.messages, "[]");
  EXPECT_EQ(request.tools, R"([{"z": 1, "a": 2}])");
  EXPECT_EQ(request.variables, R"({"x": 1})");
  EXPECT_FALSE(request.add_generation_prompt);
}

// What 64 bits do not hold, brackets, quotes and commas inside of strings, blanks anywhere.
TEST(Messages, WhatIsGivenIsKeptAsWritten) {
  const std::string messages = R"([{"content": "a \"}],{ \\", "n": 100000000000000000000, "x": 1.50}, {} ])";
  const ChatRequest request =
      parse_chat_request(" {\n\"to\\u006fls\" : [ ] ,\t\"messages\":\r " + messages + " } ", "f");
  EXPECT_EQ(request.messages, messages);
  EXPECT_EQ(request.tools, "[ ]");
}

TEST(Messages, OthersAreRefused) {
  const std::string deep = "{\"messages\": " + std::string(10000, '[');
  for (const std::string text : {"", "1", "{}", "[", R"({"messages": [], "more": 1})", deep.c_str()})
    EXPECT_THROW(parse_chat_request(text, "f"), Error) << text;
}

}  // namespace
}  // namespace millrace
