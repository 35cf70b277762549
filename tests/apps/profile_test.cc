#include "apps/common/profile.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "loader/text_file.h"
#include "model/session.h"
#include "runtime/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace millrace {
namespace {

class ChromeTrace : public testing::Test {
 protected:
  void SetUp() override {
    engine_ = Engine::open(test::source_dir() + "/apps/demo/millrace-demo", {.threads = 1});
    Session session(*engine_);
    session.forward(std::vector<std::int32_t>{1, 2, 3}, {.observer = &trace_});
    session.forward(std::vector<std::int32_t>{4}, {.observer = &trace_});
    const auto path = folder_.path() / "trace.json";
    write_chrome_trace(trace_, path);
    json_ = nlohmann::json::parse(read_text_file(path, 1 << 24));
  }

  test::TempFolder folder_;
  std::unique_ptr<Engine> engine_;
  Trace trace_{1000};
  nlohmann::json json_;
};

TEST_F(ChromeTrace, HasEveryStepByName) {
  std::map<std::string, int> seen;
  for (const auto& event : json_.at("traceEvents")) ++seen[event.at("name")];
  for (const Step& step : engine_->program().steps()) EXPECT_EQ(seen[step.name], 2) << step.name;
  EXPECT_EQ(seen["pass of 3 rows"], 1);
  EXPECT_EQ(seen["pass of 1 rows"], 1);
  EXPECT_EQ(json_.at("otherData").at("steps_left_out"), 0);
}

TEST_F(ChromeTrace, StepsLieInTheirPassAndAddUp) {
  double begin = 0, end = 0, sum = 0, flops = 0;
  for (const auto& event : json_.at("traceEvents")) {
    EXPECT_EQ(event.at("ph"), "X");
    const double start = event.at("ts"), duration = event.at("dur");
    EXPECT_GE(duration, 0);
    if (event.at("cat") == "pass") {
      EXPECT_GE(start, end - 0.01);
      begin = start;
      end = start + duration;
      continue;
    }
    EXPECT_GE(start, begin - 0.01);
    EXPECT_LE(start + duration, end + 0.01);
    sum += duration * 1e-6;
    flops += event.at("args").at("flops").get<double>();
  }
  EXPECT_NEAR(sum, trace_.total().seconds, 1e-9 * static_cast<double>(trace_.events().size()));
  EXPECT_NEAR(flops, trace_.total().cost.flops, static_cast<double>(trace_.events().size()));
}

TEST_F(ChromeTrace, TheTableListsEveryKind) {
  const std::string table = kinds_table(trace_);
  for (const Step& step : engine_->program().steps())
    EXPECT_NE(table.find(std::string(step.op->kind()) + " "), std::string::npos) << step.op->kind();
  EXPECT_NE(table.find("all steps"), std::string::npos);
}

TEST(Profile, APathThatCannotBeIsRefusedAtOnce) {
  EXPECT_THROW(Profile("no/such/folder/trace.json"), Error);
  EXPECT_EQ(Profile("").observer(), nullptr);
}

}  // namespace
}  // namespace millrace
