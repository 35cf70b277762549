#include "apps/common/dump.h"

#include <gmock/gmock.h>

#include "runtime/error.h"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Writes the token id of each row, plus a constant, into every element.
class Ids final : public Op {
 public:
  Ids(std::int64_t width, float plus) : width_(width), plus_(plus) {}
  std::string_view kind() const noexcept override { return "ids"; }
  void run(const StepContext& context) const override {
    for (std::int64_t i = 0; i < context.rows * width_; ++i)
      context.output(0)[i] = static_cast<float>(context.batch.tokens[static_cast<std::size_t>(i / width_)]) + plus_;
  }
  Cost cost(const StepContext&) const override { return {}; }

 private:
  std::int64_t width_;
  float plus_;
};

using Shape = std::vector<std::int64_t>;

Program three_steps() {
  ProgramBuilder builder;
  builder.add("embed_tokens", std::make_unique<Ids>(2, 0.0f), {}, Shape({2}));
  builder.add("layers.0.self_attn.q_proj", std::make_unique<Ids>(1, 0.5f), {}, Shape({1}));
  builder.add("layers.0", std::make_unique<Ids>(6, 0.25f), {}, Shape({2, 3}));
  builder.add("logits", std::make_unique<Ids>(4, 0.0f), {}, Shape({4}), RowSpace::logits);
  return std::move(builder).build();
}

std::vector<std::string> names(const Program& program, const std::vector<std::string>& patterns) {
  std::vector<std::string> chosen;
  const auto ids = select_values({&program}, patterns);
  for (const ValueId id : ids[0]) chosen.push_back(program.value(id).name);
  return chosen;
}

TEST(Dump, NamesOfTheFormat) {
  for (const char* name : {"embed_tokens", "norm", "logits", "layers.0", "layers.47.self_attn.q", "layers.3.mlp",
                           "layers.3.mlp.topk_ids", "mtp.layers.0", "mtp.layers.2.eh_proj", "mtp.layers.2.logits"})
    EXPECT_TRUE(is_dump_name(name)) << name;
  for (const char* name :
       {"", "layers", "layers.", "layers.x", "layers.0.self_attn.q_proj", "layers.0.", "normal", "mlp",
        "layers.0.mlp.topk", "layers.mlp", "mtp", "mtp.layers.0.self_attn.q", "mtp.layers.eh_proj"})
    EXPECT_FALSE(is_dump_name(name)) << name;
}

TEST(Dump, SelectsAmongSeveralPrograms) {
  const Program program = three_steps();
  ProgramBuilder builder;
  for (const char* name : {"mtp.layers.0.concat", "mtp.layers.0", "mtp.layers.0.logits"})
    builder.add(name, std::make_unique<Ids>(1, 0.0f), {}, Shape({1}));
  const Program mtp = std::move(builder).build();
  using Chosen = std::vector<std::vector<ValueId>>;
  EXPECT_EQ(select_values({&program, &mtp}, {"all"}), (Chosen{{0, 2}, {1, 2}}));
  EXPECT_EQ(select_values({&program, &mtp}, {"mtp.*"}), (Chosen{{}, {1, 2}}));
  EXPECT_EQ(select_values({&program, &mtp}, {"layers.0", "mtp.layers.0.concat"}), (Chosen{{2}, {0}}));
  EXPECT_THROW(select_values({&program, &mtp}, {"mtp.layers.1"}), Error);
  EXPECT_TRUE(asks_for_mtp({"norm", "*"}));
  EXPECT_TRUE(asks_for_mtp({"mtp.layers.0"}));
  EXPECT_TRUE(asks_for_mtp({"all"}));
  EXPECT_FALSE(asks_for_mtp({"layers.*"}));
}

TEST(Dump, Selects) {
  const Program program = three_steps();
  EXPECT_THAT(names(program, {"all"}), ElementsAre("embed_tokens", "layers.0"));
  EXPECT_THAT(names(program, {"layers.*"}), ElementsAre("layers.0"));
  EXPECT_THAT(names(program, {"layers.0.self_attn.q_proj"}), ElementsAre("layers.0.self_attn.q_proj"));
  EXPECT_THAT(names(program, {"layers.0", "embed*", "layers.0"}), ElementsAre("embed_tokens", "layers.0"));
  EXPECT_THAT(names(program, {"logits"}), ElementsAre());
  EXPECT_THAT(names(program, {}), ElementsAre());
}

TEST(Dump, UnknownNameNamesNearOnes) {
  const Program program = three_steps();
  try {
    select_values({&program}, {"all", "layer.0"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::bad_argument);
    EXPECT_THAT(error.what(), HasSubstr("'layer.0'"));
    EXPECT_THAT(error.what(), HasSubstr("near names: layers.0,"));
  }
  EXPECT_THROW(select_values({&program}, {"layers.1*"}), Error);
  EXPECT_THROW(select_values({&program}, {""}), Error);
}

}  // namespace
}  // namespace millrace
