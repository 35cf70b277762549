#include "loader/json.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::SizeIs;

std::string message_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "some.json", limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::bad_file);
    EXPECT_THAT(error.what(), HasSubstr("some.json"));
    return error.what();
  }
  return "no error";
}

TEST(Json, ReadsEveryKindOfValue) {
  const std::string text = R"({"a":[1,-2,2.5,1e3,true,false,null,"x\u00e9\ud83d\ude00",[],{}],"b":{"c":{"d":[[0]]}}})";
  EXPECT_EQ(parse_json(text, "t"), json::parse(text));
  EXPECT_EQ(parse_json(" 7 ", "t"), 7);
  EXPECT_EQ(parse_json("18446744073709551615", "t").get<std::uint64_t>(), 18446744073709551615u);
}

TEST(Json, NamesTheFileAndThePlaceOfASyntaxError) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":}", "{\"a\" 1}", "nul", "[1] 2", "{'a':1}", "\"\n\"", "1e999"})
    EXPECT_THAT(message_of(text), HasSubstr("not valid JSON")) << text;
  EXPECT_THAT(message_of("{\n \"a\": tru }"), HasSubstr("line 2"));
}

TEST(Json, RefusesNul) {
  EXPECT_THAT(message_of({"7\0", 2}), HasSubstr("NUL byte at offset 1"));
  EXPECT_THAT(message_of({"{}\0junk", 7}), HasSubstr("NUL byte at offset 2"));
}

TEST(Json, RefusesBytesThatAreNotUtf8) {
  EXPECT_THAT(message_of("{\"a\xff\": 1}"), HasSubstr("UTF-8"));
  EXPECT_THAT(message_of("\"\xed\xa0\x80\""), HasSubstr("UTF-8"));
}

TEST(Json, KeepsMessagesShortAndPrintable) {
  const std::string message = message_of("\"" + std::string(100000, 'x') + "\xff\x01");
  EXPECT_LT(message.size(), 400u);
  for (const char c : message) EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(Json, BoundsNestingWithoutRecursion) {
  const std::string deepest = std::string(64, '[') + std::string(64, ']');
  EXPECT_NO_THROW(parse_json(deepest, "t"));
  EXPECT_THAT(message_of("[" + deepest + "]"), HasSubstr("64"));
  EXPECT_THAT(message_of(std::string(5'000'000, '[')), HasSubstr("JSON"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_THAT(message_of(objects), HasSubstr("JSON"));
}

TEST(Json, DetectsRepeatedKeysWhenAsked) {
  const char* text = R"({"w": 1, "v": {"w": 2}, "w": 3})";
  EXPECT_EQ(parse_json(text, "t")["w"], 3);
  EXPECT_THAT(message_of(text, {.unique_keys = true}), HasSubstr("\"w\" appears twice"));
  EXPECT_NO_THROW(parse_json(R"([{"w": 1}, {"w": 1}])", "t", {.unique_keys = true}));
}

TEST(Json, ReadsFilesUpToASize) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "json_test.json";
  std::ofstream(path) << "[1, 2, 3]";
  EXPECT_THAT(parse_json_file(path), SizeIs(3));
  EXPECT_THROW(parse_json_file(path, {.max_bytes = 8}), Error);
  EXPECT_THROW(parse_json_file(path.parent_path()), Error);
  std::filesystem::remove(path);
  try {
    parse_json_file(path);
    FAIL() << "a missing file was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::not_found);
    EXPECT_THAT(error.what(), HasSubstr("json_test.json"));
  }
}

}  // namespace
}  // namespace millrace
