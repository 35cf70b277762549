#include "model/config_reader.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::bad_config);
    return error.what();
  }
  return "no error";
}

TEST(ConfigReader, ReadsEveryKindOfValue) {
  const json object = json::parse(
      R"({"i": 3, "x": 2.5, "n": 7, "b": true, "t": "abc", "l": [1, 2], "w": ["a", "b"], "o": {"i": 4}, "z": null})");
  const ConfigReader config(object, "c.json");
  EXPECT_EQ(config.integer({"i"}, {1, 3}), 3);
  EXPECT_EQ(config.number({"x"}, {0, 3}), 2.5);
  EXPECT_EQ(config.number({"n"}, {0, 7}), 7);
  EXPECT_EQ(config.find_bool("b"), true);
  EXPECT_EQ(config.find_text({"t"}), "abc");
  EXPECT_EQ(config.find_integers("l", {1, 2}), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(config.find_texts("w"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.find_object("o")->integer({"i"}, {1, 9}), 4);
  EXPECT_EQ(config.find_one_or_more("i", {1, 9}), (std::vector<std::int64_t>{3}));
  EXPECT_EQ(config.find_one_or_more("l", {1, 9}), (std::vector<std::int64_t>{1, 2}));
}

TEST(ConfigReader, NullCountsAsAbsent) {
  const json object = json::parse(R"({"z": null})");
  const ConfigReader config(object, "c.json");
  EXPECT_FALSE(config.has("z"));
  EXPECT_FALSE(config.find_integer({"z", "y"}, {1, 9}));
  EXPECT_FALSE(config.find_object("z"));
  EXPECT_EQ(error_of([&] { config.integer({"z"}, {1, 9}); }), "c.json: z is missing");
  EXPECT_EQ(error_of([&] { config.number({"z", "y"}, {1, 9}); }), "c.json: none of z, y is present");
}

TEST(ConfigReader, WrongTypesNameTheKeyAndTheValue) {
  const json object = json::parse(R"({"s": "4096", "f": 1.5, "o": {}, "l": [1, "a"], "m": [[]], "t": 1})");
  const ConfigReader config(object, "c.json");
  EXPECT_EQ(error_of([&] { config.integer({"s"}, {1, 9}); }), "c.json: s is \"4096\", expected an integer from 1 to 9");
  EXPECT_THAT(error_of([&] { config.integer({"f"}, {1, 9}); }), HasSubstr("f is 1.5"));
  EXPECT_THAT(error_of([&] { config.number({"o"}, {1, 9}); }), HasSubstr("o is an object, expected a number"));
  EXPECT_THAT(error_of([&] { config.find_integers("l", {1, 9}); }), HasSubstr("l[1] is \"a\""));
  EXPECT_THAT(error_of([&] { config.find_integers("s", {1, 9}); }), HasSubstr("s is \"4096\", expected a list"));
  EXPECT_THAT(error_of([&] { config.find_texts("m"); }), HasSubstr("m[0] is a list, expected a text"));
  EXPECT_THAT(error_of([&] { config.find_texts("t"); }), HasSubstr("t is 1, expected a list"));
  EXPECT_THAT(error_of([&] { config.find_bool("t"); }), HasSubstr("t is 1, expected true or false"));
  EXPECT_THAT(error_of([&] { config.find_text({"t"}); }), HasSubstr("t is 1, expected a text"));
  EXPECT_THAT(error_of([&] { config.find_object("t"); }), HasSubstr("c.json: t is 1, expected an object"));
  const json list = json::array();
  EXPECT_EQ(error_of([&] { ConfigReader(list, "c.json"); }), "c.json is a list, expected an object");
}

TEST(ConfigReader, RangesHold) {
  const json object =
      json::parse(R"({"big": 18446744073709551615, "low": -9223372036854775808, "zero": 0, "huge": 1e300})");
  const ConfigReader config(object, "c.json");
  EXPECT_THAT(error_of([&] { config.integer({"big"}, {1, INT64_MAX}); }), HasSubstr("18446744073709551615"));
  EXPECT_THAT(error_of([&] { config.integer({"low"}, {0, 9}); }), HasSubstr("-9223372036854775808"));
  EXPECT_EQ(config.integer({"low"}, {INT64_MIN, 9}), INT64_MIN);
  EXPECT_THAT(error_of([&] { config.number({"zero"}, {0, 1}); }), HasSubstr("expected a number above 0"));
  EXPECT_THAT(error_of([&] { config.number({"huge"}, {0, 1e30}); }), HasSubstr("at most 1e+30"));
}

TEST(ConfigReader, SpellingsAgreeOrFail) {
  const json object = json::parse(R"({"a": 1, "b": 1.0, "c": 2, "d": null})");
  const ConfigReader config(object, "c.json");
  EXPECT_EQ(config.number({"a", "b", "d"}, {0, 9}), 1);
  EXPECT_EQ(config.integer({"d", "c"}, {0, 9}), 2);
  EXPECT_THAT(error_of([&] { config.number({"a", "c"}, {0, 9}); }), AllOf(HasSubstr("a is 1"), HasSubstr("c is 2")));
}

TEST(ConfigReader, MessagesStayShortAndPrintable) {
  const json object = {{"t", std::string(100000, 'x') + "\n"}, {"c", "a\x1b[2J\xc3\xa9"}};
  const ConfigReader config(object, "c.json");
  EXPECT_LT(error_of([&] { config.integer({"t"}, {0, 9}); }).size(), 200u);
  EXPECT_THAT(error_of([&] { config.integer({"c"}, {0, 9}); }), HasSubstr("\"a?[2J??\""));
}

}  // namespace
}  // namespace millrace
