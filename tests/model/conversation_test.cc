#include "model/conversation.h"

#include <gmock/gmock.h>

#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

using testing::HasSubstr;

Conversation of_two_exchanges() {
  Conversation conversation;
  conversation.set_system("Be brief.");
  conversation.add_user("a");
  conversation.add_assistant("b", "thought");
  conversation.add_user("c\n\xff");
  conversation.add_assistant("d", "");
  return conversation;
}

TEST(Conversation, MessagesAreWhatTemplatesTake) {
  EXPECT_EQ(Conversation().messages(), "[]");
  EXPECT_EQ(of_two_exchanges().messages(),
            R"([{"role":"system","content":"Be brief."},{"role":"user","content":"a"},)"
            R"({"role":"assistant","content":"b","reasoning_content":"thought"},)"
            "{\"role\":\"user\",\"content\":\"c\\n\xef\xbf\xbd\"},{\"role\":\"assistant\",\"content\":\"d\"}]");
}

TEST(Conversation, Undo) {
  Conversation conversation = of_two_exchanges();
  EXPECT_EQ(conversation.exchanges(), 2);
  EXPECT_EQ(conversation.last_question(), "c\n\xef\xbf\xbd");
  EXPECT_TRUE(conversation.undo());
  EXPECT_EQ(conversation.last_question(), "a");
  EXPECT_TRUE(conversation.undo());
  EXPECT_FALSE(conversation.undo());
  EXPECT_EQ(conversation.messages(), R"([{"role":"system","content":"Be brief."}])");
  EXPECT_EQ(conversation.last_question(), "");
}

TEST(Conversation, SystemText) {
  Conversation conversation = of_two_exchanges();
  conversation.set_system("Be long.");
  EXPECT_EQ(conversation.system(), "Be long.");
  conversation.clear();
  EXPECT_EQ(conversation.messages(), R"([{"role":"system","content":"Be long."}])");
  conversation.set_system("");
  EXPECT_EQ(conversation.messages(), "[]");
}

TEST(Conversation, FilesKeepEverything) {
  const test::TempFolder folder;
  const Conversation conversation = of_two_exchanges();
  conversation.save(folder.path() / "c.json");
  EXPECT_EQ(Conversation::load(folder.path() / "c.json").messages(), conversation.messages());
  conversation.save(folder.path() / "c.json");
  EXPECT_EQ(folder.entries(), 1);
  const std::string with_calls =
      R"([{"role":"assistant","content":"","tool_calls":[{"function":{"arguments":{"z":1,"a":2}}}]}])";
  folder.write("d.json", R"({"format": "millrace-conversation-1", "messages": )" + with_calls + "}");
  EXPECT_EQ(Conversation::load(folder.path() / "d.json").messages(), with_calls);
}

TEST(Conversation, DamagedFilesAreRefused) {
  const test::TempFolder folder;
  const auto message = [&folder](const std::string& text) {
    const auto path = folder.write("c.json", text);
    return test::error_of(Errc::bad_file, [&path] { Conversation::load(path); });
  };
  const auto of = [](const char* messages) {
    return std::string(R"({"format": "millrace-conversation-1", "messages": )") + messages + "}";
  };
  EXPECT_THAT(message(""), HasSubstr("c.json: not valid JSON"));
  EXPECT_THAT(message("[]"), HasSubstr("not a conversation"));
  EXPECT_THAT(message(R"({"format": "other", "messages": []})"), HasSubstr("not a conversation"));
  EXPECT_THAT(message(R"({"format": "millrace-conversation-1"})"), HasSubstr("no list of messages"));
  EXPECT_THAT(message(of("{}")), HasSubstr("no list of messages"));
  EXPECT_THAT(message(of("[1]")), HasSubstr("message 0 is no object"));
  EXPECT_THAT(message(of(R"([{"role": "user", "content": ""}, {"role": "boss", "content": ""}])")),
              HasSubstr("message 1 has no role"));
  EXPECT_THAT(message(of(R"([{"role": ["user"], "content": ""}])")), HasSubstr("no role"));
  EXPECT_THAT(message(of(R"([{"role": "user"}])")), HasSubstr("no content"));
  EXPECT_THAT(message(of(R"([{"role": "user", "content": null}])")), HasSubstr("no content"));
  EXPECT_THAT(message(of(R"([{"role": "user", "content": "", "reasoning_content": 1}])")), HasSubstr("reasoning"));
  EXPECT_THAT(message(of(std::string(100000, '[').c_str())), HasSubstr("nested"));
  EXPECT_THAT(test::error_of(Errc::not_found, [&] { Conversation::load(folder.path() / "none"); }), HasSubstr("none"));
}

}  // namespace
}  // namespace millrace
