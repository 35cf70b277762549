#include "loader/plain_json.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace millrace {
namespace {

// {"key": [numbers], ...}
bool reads(std::string_view text, std::map<std::string, std::vector<std::uint64_t>>* values = nullptr) {
  PlainJson json(text);
  const bool good = json.object([&](std::string_view key) {
    return json.array([&] {
      std::uint64_t number = 0;
      if (!json.number(number)) return false;
      if (values != nullptr) (*values)[std::string(key)].push_back(number);
      return true;
    });
  });
  return good && json.end();
}

TEST(PlainJson, ReadsObjectsArraysAndNumbers) {
  std::map<std::string, std::vector<std::uint64_t>> values;
  EXPECT_TRUE(reads(" {\"a\" : [ 0,10,\n999999999999999999 ] ,\t\"b c\":[]}\r\n", &values));
  EXPECT_EQ(values["a"], (std::vector<std::uint64_t>{0, 10, 999999999999999999}));
  EXPECT_TRUE(reads("{}"));
}

TEST(PlainJson, RefusesWhatIsNoJson) {
  for (const char* text :
       {"", "{", "}", "{}}", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":[}", "{\"a\":[1,]}", "{\"a\":[1 2]}", "{\"a\":[01]}",
        "{\"a\":[1a]}", "{\"a\":[1]", "{\"a:[1]}", "{a:[1]}", "{\"a\":[1],}", "[]", "{\"a\\\":[1]}", "{\"a\n\":[1]}"})
    EXPECT_FALSE(reads(text)) << text;
  EXPECT_FALSE(reads(std::string_view("{\"a\0\":[1]}", 11)));
}

TEST(PlainJson, LeavesWhatIsNotPlainToOthers) {
  for (const char* text : {R"({"\u0061":[1]})", "{\"\xc3\xa4\":[1]}", "{\"a\":[-1]}", "{\"a\":[1.5]}", "{\"a\":[1e2]}",
                           "{\"a\":[1000000000000000000]}", "{\"a\":[null]}"})
    EXPECT_FALSE(reads(text)) << text;
}

}  // namespace
}  // namespace millrace
