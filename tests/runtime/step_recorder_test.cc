#include "runtime/step_recorder.h"

#include <gmock/gmock.h>

#include "runtime/error.h"
#include "runtime/workspace.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using Shape = std::vector<std::int64_t>;
using Names = std::vector<std::string>;

// Writes the token id of each row into every element.
class Ids final : public Op {
 public:
  explicit Ids(std::int64_t width) : width_(width) {}
  std::string_view kind() const noexcept override { return "ids"; }
  void run(const StepContext& context) const override {
    for (std::int64_t i = 0; i < context.rows * width_; ++i)
      context.output(0)[i] = static_cast<float>(context.batch.tokens[static_cast<std::size_t>(i / width_)]);
  }
  Cost cost(const StepContext&) const override { return {}; }

 private:
  std::int64_t width_;
};

Program three_steps() {
  ProgramBuilder builder;
  builder.add("embed_tokens", std::make_unique<Ids>(2), {}, Shape({2}));
  builder.add("layers.0", std::make_unique<Ids>(6), {}, Shape({2, 3}));
  builder.add("logits", std::make_unique<Ids>(4), {}, Shape({4}), RowSpace::logits);
  return std::move(builder).build();
}

TEST(StepRecorder, AppendsTheRowsOfEachPass) {
  const Program program = three_steps();
  Workspace workspace(program, {.rows = 4, .logits_rows = 1, .threads = 1});
  const Parallel parallel(1);
  StepRecorder recorder(program, Names{"layers.0", "embed_tokens"}, 3);
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{7, 8}, std::vector<std::int32_t>{9}}) {
    Batch batch;
    batch.tokens = tokens;
    batch.positions = tokens;
    program.run(batch, workspace, parallel, &recorder);
  }
  ASSERT_EQ(recorder.values().size(), 2u);
  EXPECT_EQ(recorder.values()[0].name, "layers.0");
  EXPECT_THAT(recorder.values()[0].shape, ElementsAre(3, 2, 3));
  EXPECT_THAT(recorder.value("embed_tokens").shape, ElementsAre(3, 2));
  EXPECT_THAT(recorder.value("embed_tokens").as(), ElementsAre(7, 7, 8, 8, 9, 9));
}

TEST(StepRecorder, NamesThatAreNot) {
  const Program program = three_steps();
  EXPECT_THROW(StepRecorder(program, Names{"layers.1"}), Error);
  EXPECT_THROW(StepRecorder(program, Names{"layers.0"}).value("embed_tokens"), Error);
}

}  // namespace
}  // namespace millrace
