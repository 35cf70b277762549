#include "model/generation_config.h"

#include <gmock/gmock.h>

#include <string>

#include "runtime/error.h"
#include "tests/support/paths.h"

namespace millrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

GenerationConfig parse(const char* text) {
  return parse_generation_config(text, "generation_config.json");
}

TEST(GenerationConfig, ReadsEveryField) {
  const GenerationConfig generation = parse(
      R"({"temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
          "eos_token_id": [7, 9], "transformers_version": "5.23"})");
  EXPECT_EQ(generation.temperature, 0.6f);
  EXPECT_EQ(generation.top_p, 0.9f);
  EXPECT_EQ(generation.top_k, 40);
  EXPECT_EQ(generation.min_p, 0.05f);
  EXPECT_EQ(generation.repetition_penalty, 1.1f);
  EXPECT_THAT(generation.eos_ids, ElementsAre(7, 9));
}

TEST(GenerationConfig, AbsentMeansDefault) {
  for (const GenerationConfig& generation :
       {parse("{}"), parse(R"({"temperature": null, "do_sample": true})"), read_generation_config("/no/such/folder")}) {
    EXPECT_EQ(generation.temperature, 1);
    EXPECT_EQ(generation.top_p, 1);
    EXPECT_EQ(generation.top_k, 0);
    EXPECT_EQ(generation.min_p, 0);
    EXPECT_EQ(generation.repetition_penalty, 1);
    EXPECT_TRUE(generation.eos_ids.empty());
  }
}

TEST(GenerationConfig, ReadsTheFolder) {
  const GenerationConfig generation = read_generation_config(test::source_dir() + "/apps/demo/millrace-demo");
  EXPECT_EQ(generation.temperature, 0.6f);
  EXPECT_EQ(generation.top_p, 0.9f);
  EXPECT_THAT(generation.eos_ids, ElementsAre(3065, 3063));
}

TEST(GenerationConfig, TemperatureBeatsDoSample) {
  EXPECT_EQ(parse(R"({"do_sample": false})").temperature, 0);
  EXPECT_EQ(parse(R"({"do_sample": false, "temperature": 0.8})").temperature, 0.8f);
  EXPECT_EQ(parse(R"({"temperature": 0})").temperature, 0);
}

TEST(GenerationConfig, OneEosIdAndDisabledTopK) {
  EXPECT_THAT(parse(R"({"eos_token_id": 151645})").eos_ids, ElementsAre(151645));
  EXPECT_EQ(parse(R"({"top_k": -1})").top_k, 0);
}

TEST(GenerationConfig, HostileValues) {
  for (const char* text : {R"({"temperature": -1})", R"({"temperature": "hot"})", R"({"temperature": 1e300})",
                           R"({"top_p": 0})", R"({"top_p": 1.5})", R"({"min_p": 2})", R"({"top_k": 1.5})",
                           R"({"top_k": 4294967296})", R"({"repetition_penalty": 0})", R"({"eos_token_id": -1})",
                           R"({"eos_token_id": [[1]]})", R"({"eos_token_id": 4294967296})", R"({"do_sample": 1})"}) {
    try {
      parse(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_config) << text;
      const std::string key = std::string(text).substr(2, std::string(text).find('"', 2) - 2);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("generation_config.json"), HasSubstr(key)));
    }
  }
  EXPECT_THROW(parse("["), Error);
}

}  // namespace
}  // namespace millrace
