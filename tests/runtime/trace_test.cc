#include "runtime/trace.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "runtime/workspace.h"

namespace millrace {
namespace {

// Takes a while and costs its rows.
class Sleeper final : public Op {
 public:
  Sleeper(std::string_view kind, double flops) : kind_(kind), flops_(flops) {}
  std::string_view kind() const noexcept override { return kind_; }
  void run(const StepContext&) const override { std::this_thread::sleep_for(std::chrono::microseconds(50)); }
  Cost cost(const StepContext& context) const override {
    const auto rows = static_cast<double>(context.rows);
    return {.weight_bytes = 100, .cache_bytes = 10 * rows, .activation_bytes = rows, .flops = flops_ * rows};
  }

 private:
  std::string_view kind_;
  double flops_;
};

Program three_steps() {
  ProgramBuilder builder;
  builder.add("embed_tokens", std::make_unique<Sleeper>("gather", 1), {}, {1});
  builder.add("layers.0", std::make_unique<Sleeper>("multiply", 2), {}, {1});
  builder.add("logits", std::make_unique<Sleeper>("multiply", 4), {}, {1}, RowSpace::logits);
  return std::move(builder).build();
}

void run(const Program& program, std::vector<std::int32_t> logits_rows, Observer& observer) {
  Workspace workspace(program, {.rows = 3, .logits_rows = 1, .threads = 1});
  const Parallel parallel(1);
  Batch batch;
  batch.tokens = batch.positions = {1, 2, 3};
  batch.logits_rows = std::move(logits_rows);
  program.run(batch, workspace, parallel, &observer);
}

TEST(Trace, TimesEveryStepInOrder) {
  const Program program = three_steps();
  Trace trace(100);
  run(program, {2}, trace);
  ASSERT_EQ(trace.events().size(), 3u);
  const std::int64_t rows[] = {3, 3, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    const Trace::Event& event = trace.events()[i];
    EXPECT_EQ(event.step, &program.steps()[i]);
    EXPECT_EQ(event.program, &program);
    EXPECT_EQ(event.rows, rows[i]);
    EXPECT_GE(event.seconds(), 50e-6);
    if (i > 0) {
      EXPECT_GE(event.begin, trace.events()[i - 1].end);
    }
  }
  EXPECT_EQ(trace.events()[1].cost.flops, 6);
  EXPECT_EQ(trace.events()[1].cost.bytes(), 100 + 30 + 3);
}

TEST(Trace, SumsByKind) {
  const Program program = three_steps();
  Trace trace(100);
  run(program, {2}, trace);
  ASSERT_EQ(trace.kinds().size(), 2u);
  EXPECT_EQ(trace.kinds()[0].kind, "gather");
  EXPECT_EQ(trace.kinds()[1].kind, "multiply");
  EXPECT_EQ(trace.kinds()[1].steps, 2);
  EXPECT_EQ(trace.kinds()[1].cost.flops, 2 * 3 + 4);
  EXPECT_EQ(trace.total().cost.weight_bytes, 300);
  double seconds = 0;
  for (const Trace::Event& event : trace.events()) seconds += event.seconds();
  EXPECT_DOUBLE_EQ(trace.total().seconds, seconds);
}

TEST(Trace, AStepWithoutRowsCostsNothing) {
  const Program program = three_steps();
  Trace trace(100);
  run(program, {}, trace);
  EXPECT_EQ(trace.events()[2].rows, 0);
  EXPECT_EQ(trace.events()[2].cost.bytes(), 0);
}

TEST(Trace, KeepsTheFirstEventsAndSumsAll) {
  const Program program = three_steps();
  Trace trace(4);
  for (int pass = 0; pass < 3; ++pass) run(program, {2}, trace);
  EXPECT_EQ(trace.events().size(), 4u);
  EXPECT_EQ(trace.steps_left_out(), 5);
  EXPECT_EQ(trace.total().steps, 9);
  trace.clear();
  EXPECT_TRUE(trace.events().empty());
  EXPECT_EQ(trace.total().steps, 0);
}

}  // namespace
}  // namespace millrace
