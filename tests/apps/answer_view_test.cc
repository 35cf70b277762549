#include "apps/common/answer_view.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using Kind = OutputEvent::Kind;

// What standard output gets of an answer.
std::string shown(bool terminal, bool colours, const std::vector<OutputEvent>& events) {
  testing::internal::CaptureStdout();
  AnswerView view(terminal, colours);
  for (const OutputEvent& event : events) view.show(event);
  view.finish();
  return testing::internal::GetCapturedStdout();
}

const std::vector<OutputEvent> thoughtful = {{Kind::reasoning, "\nHm", {}},
                                             {Kind::reasoning, "m.", {}},
                                             {Kind::content, "\n\n", {}},
                                             {Kind::content, "\nYes.", {}}};

TEST(AnswerView, APipeGetsTheAnswerAsItIs) {
  EXPECT_EQ(shown(false, false, thoughtful), "\n\n\nYes.\n");
  EXPECT_EQ(shown(false, true, {{Kind::content, "a\033[1m\n", {}}}), "a\033[1m\n");
  EXPECT_EQ(shown(false, false, {}), "\n");
}

TEST(AnswerView, ReasoningIsDimmed) {
  EXPECT_EQ(shown(true, true, thoughtful), "\033[2mHmm.\033[22m\n\nYes.\n");
  EXPECT_EQ(shown(true, false, thoughtful), "[thinking]\nHmm.\n[answer]\nYes.\n");
  EXPECT_EQ(shown(true, true, {{Kind::reasoning, "Hmm.", {}}}), "\033[2mHmm.\033[22m\n");
  EXPECT_EQ(shown(true, true, {{Kind::content, "Yes.\n", {}}}), "Yes.\n");
  EXPECT_EQ(shown(true, true, {}), "");
}

TEST(AnswerView, ModelsCannotSteerTheTerminal) {
  EXPECT_EQ(shown(true, true, {{Kind::content, "a\033[31mb\r\a\x7f\tc\n", {}}}), "a[31mb\tc\n");
  EXPECT_EQ(without_controls("\xc2\x9b"
                             "1m\xc2\xa0\xc3\xa9\xe2\x80\xa9"),
            "1m\xc2\xa0\xc3\xa9\xe2\x80\xa9");
}

}  // namespace
}  // namespace millrace
