// Every template and case of the goldens, against what the reference rendered.
#include <gtest/gtest.h>

#include <fstream>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "loader/chat_template.h"
#include "loader/jinja_error.h"
#include "loader/text_file.h"
#include "tests/support/golden.h"

namespace millrace {
namespace {

using Json = nlohmann::ordered_json;

Json read_ordered(const std::filesystem::path& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

std::string optional(const Json& entry, const char* key) {
  return entry.contains(key) ? entry[key].dump() : std::string();
}

std::tm time_of(const std::string& text) {
  std::tm time{};
  std::istringstream(text) >> std::get_time(&time, "%Y-%m-%dT%H:%M:%S");
  std::tm in_utc = time;
  const std::time_t seconds = timegm(&in_utc);  // finds the days of week and year
  gmtime_r(&seconds, &time);
  return time;
}

ChatRequest request_of(const Json& entry) {
  return {.messages = entry["messages"].dump(),
          .tools = optional(entry, "tools"),
          .variables = optional(entry, "variables"),
          .add_generation_prompt = entry.value("add_generation_prompt", false)};
}

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

class JinjaGolden : public testing::TestWithParam<const char*> {};

TEST_P(JinjaGolden, RendersAsTheReference) {
  const std::filesystem::path folder = test::golden("text/templates");
  const Json cases = read_ordered(folder / (std::string(GetParam()) + ".cases.json"));
  const std::string name = cases["template"];
  const ChatTemplate chat = ChatTemplate::parse(read_text_file(folder / name, 1 << 20), name);
  for (const Json& entry : cases["cases"]) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    ChatRequest request = request_of(entry);
    if (cases.contains("now")) request.now = time_of(cases["now"]);
    if (entry.contains("expected")) {
      EXPECT_EQ(chat.render(request).text(), entry["expected"]);
      continue;
    }
    try {
      chat.render(request);
      ADD_FAILURE() << "expected an error like " << entry["error"];
    } catch (const TemplateError& error) {
      EXPECT_EQ(error.raised(), entry["error"]["kind"] == "raised") << error.what();
      EXPECT_TRUE(!error.raised() || error.detail() == entry["error"]["message"]) << error.what();
      EXPECT_TRUE(std::string(error.what()).starts_with(name + ": line ")) << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Templates, JinjaGolden,
                         testing::Values("clock", "conversions", "filters", "generation", "guards", "json", "loops",
                                         "macros", "methods", "mimo", "minimax", "operators", "scopes", "slices",
                                         "tests", "whitespace"),
                         [](const auto& test) { return std::string(test.param); });

TEST(JinjaGolden, BadTemplatesEndInAnErrorThatNamesTheCause) {
  const Json bad = read_ordered(test::golden("text/templates/bad-templates.json"));
  for (const Json& entry : bad["cases"]) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    try {
      const ChatTemplate chat = ChatTemplate::parse(entry["template"].get<std::string>(), "bad.jinja");
      chat.render({.messages = bad["messages"].dump()});
      ADD_FAILURE() << "expected an error";
    } catch (const TemplateError& error) {
      const std::string message = lower_case(error.what());
      for (const std::string word : entry["error_names"])
        EXPECT_NE(message.find(lower_case(word)), std::string::npos) << message << " lacks " << word;
    }
  }
}

}  // namespace
}  // namespace millrace
