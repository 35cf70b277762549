#include "model/stop_strings.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

struct Case {
  const char* text;
  std::vector<std::string> stops;
  const char* shown;
  bool stopped;
};

const std::vector<Case> cases = {
    {"one two", {}, "one two", false},
    {"one two", {""}, "one two", false},
    {"one two", {"two"}, "one ", true},
    {"one two", {"twos"}, "one two", false},
    {"aaab", {"aab"}, "a", true},
    {"ababac", {"abac"}, "ab", true},
    {"abcd", {"abcd", "bc"}, "a", true},   // the one that is complete first
    {"abcd", {"cd", "bcd"}, "a", true},    // both at once: the longer
    {"x\n\ny\n\nz", {"\n\n"}, "x", true},  // the first occurrence
    {"na\xc3\xafve", {"\xaf"}, "na\xc3", true},
    {"", {"a"}, "", false},
};

// The text in pieces of `size` bytes.
std::string in_pieces(StopStrings& stops, std::string_view text, std::size_t size) {
  std::string shown;
  for (std::size_t at = 0; at < text.size(); at += size) shown += stops.push(text.substr(at, size));
  return shown + stops.flush();
}

TEST(StopStrings, CutAtTheFirstWhateverThePieces) {
  for (const Case& test : cases)
    for (std::size_t size = 1; size <= 8; ++size) {
      StopStrings stops(test.stops);
      EXPECT_EQ(in_pieces(stops, test.text, size), test.shown) << test.text << " in pieces of " << size;
      EXPECT_EQ(stops.stopped(), test.stopped) << test.text << " in pieces of " << size;
    }
}

TEST(StopStrings, HoldBackOnlyWhatMayBecomeOne) {
  StopStrings stops({"###"});
  EXPECT_EQ(stops.push("a #"), "a ");
  EXPECT_EQ(stops.push("# b"), "## b");
  EXPECT_EQ(stops.push("##"), "");
  EXPECT_EQ(stops.flush(), "##");
}

TEST(StopStrings, DropWhatFollows) {
  StopStrings stops({"end"});
  EXPECT_EQ(stops.push("the end of"), "the ");
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.flush(), "");
}

}  // namespace
}  // namespace millrace
