#include "runtime/workspace.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/probe_op.h"
#include "tests/support/random.h"

namespace millrace {
namespace {

struct Life {
  std::size_t born, last_use;
  const std::byte *begin, *end;
};

// Steps with one to three outputs that read random earlier values or inputs; some values are never read, some are kept.
Program random_program(test::Random& random, std::int64_t steps) {
  ProgramBuilder builder;
  std::vector<ValueId> ids;
  for (std::int64_t i = random.below(3); i > 0; --i)
    ids.push_back(builder.add_input({.name = fmt::format("in{}", i), .row_shape = {1 + random.below(40)}}));
  for (std::int64_t i = 0; i < steps; ++i) {
    std::vector<Value> outputs;
    for (std::int64_t o = random.below(3); o >= 0; --o)
      outputs.push_back({.name = fmt::format("v{}.{}", i, o),
                         .row_shape = {1 + random.below(40), 1 + random.below(3)},
                         .row_space = random.below(4) == 0 ? RowSpace::logits : RowSpace::batch});
    std::vector<ValueId> inputs;
    for (std::int64_t n = ids.empty() ? 0 : random.below(4); n > 0; --n)
      inputs.push_back(ids[static_cast<std::size_t>(random.below(std::ssize(ids)))]);
    const auto count = static_cast<ValueId>(outputs.size());
    auto op = std::make_unique<test::ProbeOp>(nullptr, static_cast<std::size_t>(random.below(500)));
    const ValueId first = builder.add_step(fmt::format("s{}", i), std::move(op), inputs, std::move(outputs));
    for (ValueId id = first; id < first + count; ++id) ids.push_back(id);
  }
  for (std::int64_t n = random.below(3); n > 0; --n)
    builder.keep(ids[static_cast<std::size_t>(random.below(std::ssize(ids)))]);
  return std::move(builder).build();
}

std::vector<Life> lives_of(const Program& program, const Workspace& workspace) {
  std::vector<Life> lives(program.values().size());
  for (ValueId id : program.inputs()) {
    const std::byte* data = workspace.data(id);
    lives[static_cast<std::size_t>(id)] = {0, 0, data, data + workspace.limits().rows * program.value(id).row_bytes()};
  }
  for (std::size_t i = 0; i < program.steps().size(); ++i) {
    const Step& step = program.steps()[i];
    EXPECT_EQ(workspace.inputs(i).size(), step.inputs.size());
    EXPECT_EQ(workspace.outputs(i).size(), step.outputs.size());
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      const Value& value = program.value(step.outputs[o]);
      const std::int64_t rows =
          value.row_space == RowSpace::logits ? workspace.limits().logits_rows : workspace.limits().rows;
      const std::byte* data = workspace.outputs(i)[o];
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % Buffer::alignment, 0u);
      lives[static_cast<std::size_t>(step.outputs[o])] = {i, i, data, data + rows * value.row_bytes()};
    }
    for (std::size_t n = 0; n < step.inputs.size(); ++n) {
      Life& life = lives[static_cast<std::size_t>(step.inputs[n])];
      EXPECT_EQ(workspace.inputs(i)[n], life.begin);
      life.last_use = i;
    }
  }
  for (ValueId id : program.kept()) lives[static_cast<std::size_t>(id)].last_use = program.steps().size();
  for (std::size_t id = 0; id < lives.size(); ++id)
    EXPECT_EQ(workspace.data(static_cast<ValueId>(id)), lives[id].begin) << program.values()[id].name;
  return lives;
}

TEST(Workspace, ValuesAliveAtTheSameTimeNeverOverlap) {
  test::Random random(1);
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Program program = random_program(random, 1 + random.below(30));
    const WorkspaceLimits limits{.rows = 1 + random.below(20), .logits_rows = 1 + random.below(5), .threads = 2};
    Workspace workspace(program, limits);
    ASSERT_EQ(workspace.bytes(), Workspace::bytes_for(program, limits));
    const std::vector<Life> lives = lives_of(program, workspace);
    const std::byte* scratch = workspace.scratch().data();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(scratch) % Buffer::alignment, 0u);
    for (const Step& step : program.steps()) EXPECT_GE(workspace.scratch().size(), step.op->scratch_bytes(1, 1));
    for (std::size_t a = 0; a < lives.size(); ++a) {
      ASSERT_LE(lives[a].end, scratch);
      for (std::size_t b = a + 1; b < lives.size(); ++b) {
        const bool together = lives[a].born <= lives[b].last_use && lives[b].born <= lives[a].last_use;
        const bool overlap = lives[a].begin < lives[b].end && lives[b].begin < lives[a].end;
        ASSERT_FALSE(together && overlap) << program.values()[a].name << " and " << program.values()[b].name;
      }
    }
  }
}

TEST(Workspace, AChainNeedsTwoValues) {
  ProgramBuilder builder;
  ValueId last = -1;
  for (int i = 0; i < 50; ++i) {
    std::vector<ValueId> inputs;
    if (i > 0) inputs.push_back(last);
    last = builder.add(fmt::format("s{}", i), std::make_unique<test::ProbeOp>(), inputs, std::vector<std::int64_t>{16});
  }
  const Program program = std::move(builder).build();
  EXPECT_EQ(Workspace::bytes_for(program, {.rows = 10, .logits_rows = 1, .threads = 1}), 2u * 10 * 16 * 4);
}

}  // namespace
}  // namespace millrace
