#include "runtime/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/observer.h"
#include "runtime/workspace.h"
#include "tests/support/probe_op.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Log {
  std::vector<std::string> lines;
};

class LoggingObserver final : public Observer {
 public:
  explicit LoggingObserver(Log& log) : log_(log) {}
  void before(const Program&, const Step& step) override {
    log_.lines.push_back("before " + step.name);
    if (step.name == cancel_at) fail(Errc::cancelled, "stopped at {}", step.name);
  }
  void after(const Program& program, const Step& step, const StepContext& context) override {
    const Value& value = program.value(step.outputs[0]);
    log_.lines.push_back(fmt::format("after {} {}x{}", step.name, context.rows, value.row_elements()));
  }
  std::string cancel_at;

 private:
  Log& log_;
};

// positions -> "a" = 10 * position -> "b" = a + 1, and "head" = b of the rows that want logits. One kv layer.
Program make_program(Log& log, bool broken = false) {
  ProgramBuilder builder;
  builder.add_kv_layer({1, 2, 2, 0});
  const auto probe = [&log](const char* name, auto body) {
    return std::make_unique<test::ProbeOp>([&log, name, body](const StepContext& context) {
      log.lines.push_back(std::string("run ") + name);
      body(context);
    });
  };
  const ValueId a = builder.add(
      "a",
      probe("a",
            [](const StepContext& context) {
              for (std::int64_t i = 0; i < context.rows; ++i)
                context.output(0)[i] = static_cast<float>(10 * context.batch.positions[static_cast<std::size_t>(i)]);
            }),
      {}, std::vector<std::int64_t>{1});
  const ValueId b = builder.add("b",
                                probe("b",
                                      [broken](const StepContext& context) {
                                        require(!broken, Errc::io, "broken");
                                        for (std::int64_t i = 0; i < context.rows; ++i)
                                          context.output(0)[i] = context.input(0)[i] + 1;
                                      }),
                                {a}, std::vector<std::int64_t>{1});
  builder.add("head",
              probe("head",
                    [](const StepContext& context) {
                      for (std::int64_t i = 0; i < context.rows; ++i)
                        context.output(0)[i] = context.input(0)[context.batch.logits_rows[static_cast<std::size_t>(i)]];
                    }),
              {b}, std::vector<std::int64_t>{1}, RowSpace::logits);
  return std::move(builder).build();
}

class ProgramTest : public testing::Test {
 protected:
  static constexpr WorkspaceLimits limits{.rows = 4, .logits_rows = 2, .threads = 2};

  ProgramTest()
      : program_(make_program(log_)),
        workspace_(program_, limits),
        cache_(program_.kv_layers(), Dtype::f32, 10),
        other_(program_.kv_layers(), Dtype::f32, 10) {}

  Batch batch(std::vector<std::int32_t> positions, std::vector<std::int32_t> logits_rows) {
    Batch result;
    result.tokens.assign(positions.size(), 1);
    result.positions = std::move(positions);
    result.runs = {{&cache_, 0, result.rows()}};
    result.logits_rows = std::move(logits_rows);
    return result;
  }
  void expect_refused(const Batch& bad, const char* text) {
    try {
      program_.run(bad, workspace_, Parallel(1), nullptr);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::bad_argument);
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
    EXPECT_TRUE(log_.lines.empty());
    EXPECT_EQ(cache_.length(), 0);
  }

  Log log_;
  Program program_;
  Workspace workspace_;
  KvCache cache_, other_;
};

TEST_F(ProgramTest, RunsStepsInOrderBetweenTheCallsOfTheObserver) {
  LoggingObserver observer(log_);
  program_.run(batch({7, 8, 9}, {0, 2}), workspace_, Parallel(2), &observer);
  EXPECT_THAT(log_.lines, ElementsAre("before a", "run a", "after a 3x1", "before b", "run b", "after b 3x1",
                                      "before head", "run head", "after head 2x1"));
  const auto* logits = reinterpret_cast<const float*>(workspace_.outputs(2)[0]);
  EXPECT_EQ(logits[0], 71.0f);
  EXPECT_EQ(logits[1], 91.0f);
}

TEST_F(ProgramTest, ComputesLogitsOfMoreRowsOfTheSameBatch) {
  Batch rows = batch({7, 8, 9}, {0, 2});
  program_.run(rows, workspace_, Parallel(2), nullptr);
  log_.lines.clear();
  LoggingObserver observer(log_);
  rows.logits_rows = {1};
  program_.run_logits(rows, workspace_, Parallel(2), &observer);
  EXPECT_THAT(log_.lines, ElementsAre("before head", "run head", "after head 1x1"));
  EXPECT_EQ(reinterpret_cast<const float*>(workspace_.outputs(2)[0])[0], 81.0f);
  EXPECT_EQ(cache_.length(), 3);
  rows.logits_rows = {0, 1, 2};
  EXPECT_THROW(program_.run_logits(rows, workspace_, Parallel(1), nullptr), Error);
  rows.logits_rows = {3};
  EXPECT_THROW(program_.run_logits(rows, workspace_, Parallel(1), nullptr), Error);
}

TEST_F(ProgramTest, AdvancesEveryCacheAfterThePass) {
  Batch two = batch({0, 1, 2}, {});
  two.runs = {{&cache_, 0, 1}, {&other_, 1, 3}};
  program_.run(two, workspace_, Parallel(1), nullptr);
  program_.run(batch({1}, {0}), workspace_, Parallel(1), nullptr);
  EXPECT_EQ(cache_.length(), 2);
  EXPECT_EQ(other_.length(), 2);
}

TEST_F(ProgramTest, SkipsAStepWithoutRowsButObservesIt) {
  LoggingObserver observer(log_);
  program_.run(batch({7}, {}), workspace_, Parallel(1), &observer);
  EXPECT_THAT(log_.lines, ElementsAre("before a", "run a", "after a 1x1", "before b", "run b", "after b 1x1",
                                      "before head", "after head 0x1"));
}

TEST_F(ProgramTest, AFailingStepEndsThePass) {
  const Program broken = make_program(log_, true);
  Workspace workspace(broken, limits);
  EXPECT_THROW(broken.run(batch({7}, {0}), workspace, Parallel(1), nullptr), Error);
  EXPECT_THAT(log_.lines, ElementsAre("run a", "run b"));
  EXPECT_EQ(cache_.length(), 0);
}

TEST_F(ProgramTest, AnObserverCanCancel) {
  LoggingObserver observer(log_);
  observer.cancel_at = "b";
  try {
    program_.run(batch({7}, {0}), workspace_, Parallel(1), &observer);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::cancelled);
  }
  EXPECT_THAT(log_.lines, ElementsAre("before a", "run a", "after a 1x1", "before b"));
  EXPECT_EQ(cache_.length(), 0);
}

TEST_F(ProgramTest, RefusesBadBatches) {
  expect_refused(batch({}, {}), "0 rows");
  expect_refused(batch({1, 2, 3, 4, 5}, {}), "5 rows");
  expect_refused(batch({1, 2, 3, 4}, {0, 1, 2}), "logits of 3 rows");
  expect_refused(batch({1, 2}, {2}), "logits of row 2");
  expect_refused(batch({1, 2}, {-1}), "logits of row -1");
  Batch bad = batch({1, 2}, {});
  bad.positions.pop_back();
  expect_refused(bad, "1 positions for 2 tokens");
  bad = batch({1, 2}, {});
  bad.runs[0].end = 1;
  expect_refused(bad, "runs cover 1");
  bad.runs = {{&cache_, 1, 2}};
  expect_refused(bad, "in order");
  bad.runs = {{nullptr, 0, 2}};
  expect_refused(bad, "in order");
  bad.runs = {{&cache_, 0, 0}, {&cache_, 0, 2}};
  expect_refused(bad, "in order");
  bad.runs = {{&cache_, 0, 3}};
  expect_refused(bad, "runs cover 3");
}

TEST_F(ProgramTest, RefusesOneCacheTwiceInABatch) {
  Batch bad = batch({1, 2}, {});
  bad.runs = {{&cache_, 0, 1}, {&cache_, 1, 2}};
  expect_refused(bad, "twice");
}

TEST_F(ProgramTest, RefusesACacheThatIsFullAndTooManyThreads) {
  cache_.advance(9);
  EXPECT_THROW(program_.run(batch({9, 10}, {}), workspace_, Parallel(1), nullptr), Error);
  EXPECT_NO_THROW(program_.run(batch({9}, {}), workspace_, Parallel(1), nullptr));
  cache_.clear();
  EXPECT_THROW(program_.run(batch({0}, {}), workspace_, Parallel(3), nullptr), Error);
}

TEST_F(ProgramTest, FindsValuesByName) {
  EXPECT_EQ(program_.find("b"), 1);
  EXPECT_EQ(program_.value(program_.find("head")).row_space, RowSpace::logits);
  EXPECT_EQ(program_.find("c"), -1);
}

TEST(ProgramBuilder, SeveralOutputsGetConsecutiveIds) {
  ProgramBuilder builder;
  std::vector<Value> outputs = {{.name = "ids", .row_shape = {2, 3}, .dtype = Dtype::i32},
                                {.name = "w", .row_shape = {}}};
  EXPECT_EQ(builder.add_step("router", std::make_unique<test::ProbeOp>(), {}, std::move(outputs)), 0);
  EXPECT_EQ(builder.add("next", std::make_unique<test::ProbeOp>(), {0, 1}, std::vector<std::int64_t>{5}), 2);
  EXPECT_EQ(builder.add_kv_layer({}), 0);
  EXPECT_EQ(builder.add_kv_layer({}), 1);
  const Program program = std::move(builder).build();
  EXPECT_THAT(program.steps()[0].outputs, ElementsAre(0, 1));
  EXPECT_EQ(program.value(0).row_bytes(), 24);
  EXPECT_EQ(program.value(1).row_elements(), 1);
}

TEST(ProgramBuilder, RefusesARepeatedName) {
  ProgramBuilder builder;
  builder.add("a", std::make_unique<test::ProbeOp>(), {}, std::vector<std::int64_t>{1});
  EXPECT_THROW(builder.add("a", std::make_unique<test::ProbeOp>(), {}, std::vector<std::int64_t>{1}), Error);
}

}  // namespace
}  // namespace millrace
