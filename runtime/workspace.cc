#include "runtime/workspace.h"

#include <algorithm>

namespace millrace {
namespace {

struct Plan {
  std::vector<std::size_t> offsets;  // of each value
  std::size_t scratch_offset = 0;
  std::size_t bytes = 0;
};

// Bytes of memory that is free between values already placed.
struct Gap {
  std::size_t offset, bytes;
};

// Greedy best fit over the list of steps: a value takes the smallest gap that holds it when it is produced and gives it
// back after its last use. The outputs of the last step therefore stay until the next pass.
class Arena {
 public:
  std::size_t take(std::size_t bytes) {
    auto best = gaps_.end();
    for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap)
      if (gap->bytes >= bytes && (best == gaps_.end() || gap->bytes < best->bytes)) best = gap;
    if (best == gaps_.end()) {
      const std::size_t offset = end_;
      end_ += bytes;
      return offset;
    }
    const std::size_t offset = best->offset;
    best->offset += bytes;
    best->bytes -= bytes;
    return offset;
  }

  void give(std::size_t offset, std::size_t bytes) {
    gaps_.push_back({offset, bytes});
    std::sort(gaps_.begin(), gaps_.end(), [](const Gap& a, const Gap& b) { return a.offset < b.offset; });
    std::vector<Gap> merged;
    for (const Gap& gap : gaps_) {
      if (gap.bytes == 0) continue;
      if (!merged.empty() && merged.back().offset + merged.back().bytes == gap.offset)
        merged.back().bytes += gap.bytes;
      else
        merged.push_back(gap);
    }
    gaps_ = std::move(merged);
  }

  std::size_t end() const { return end_; }

 private:
  std::vector<Gap> gaps_;
  std::size_t end_ = 0;
};

Plan plan(const Program& program, const WorkspaceLimits& limits) {
  const auto steps = program.steps();
  const std::size_t values = program.values().size();
  std::vector<std::size_t> last_use(values), bytes(values);
  const auto produce = [&](ValueId id, std::size_t step) {
    const Value& value = program.value(id);
    const std::int64_t rows = value.row_space == RowSpace::logits ? limits.logits_rows : limits.rows;
    last_use[static_cast<std::size_t>(id)] = step;
    bytes[static_cast<std::size_t>(id)] = Buffer::aligned(static_cast<std::size_t>(rows * value.row_bytes()));
  };
  for (ValueId id : program.inputs()) produce(id, 0);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    for (ValueId id : steps[i].inputs) last_use[static_cast<std::size_t>(id)] = i;
    for (ValueId id : steps[i].outputs) produce(id, i);
  }
  for (ValueId id : program.kept()) last_use[static_cast<std::size_t>(id)] = steps.size();
  // Steps of logits rows may be run again, from what they take from the batch.
  for (const Step& step : steps)
    for (ValueId id : step.inputs)
      if (program.value(step.outputs[0]).row_space == RowSpace::logits &&
          program.value(id).row_space == RowSpace::batch)
        last_use[static_cast<std::size_t>(id)] = steps.size();
  Plan result;
  result.offsets.resize(values);
  Arena arena;
  std::size_t scratch = 0;
  const auto place = [&](ValueId id) {
    result.offsets[static_cast<std::size_t>(id)] = arena.take(bytes[static_cast<std::size_t>(id)]);
  };
  for (ValueId id : program.inputs()) place(id);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    for (ValueId id : steps[i].outputs) place(id);
    for (std::size_t value = 0; value < values; ++value)
      if (last_use[value] == i) arena.give(result.offsets[value], bytes[value]);
    scratch = std::max(scratch, steps[i].op->scratch_bytes(limits.rows, limits.threads));
  }
  result.scratch_offset = arena.end();
  result.bytes = arena.end() + Buffer::aligned(scratch);
  return result;
}

}  // namespace

Workspace::Workspace(const Program& program, const WorkspaceLimits& limits) : limits_(limits) {
  const Plan layout = plan(program, limits);
  arena_ = Buffer(layout.bytes, "workspace");
  scratch_offset_ = layout.scratch_offset;
  for (std::size_t offset : layout.offsets) values_.push_back(arena_.data() + offset);
  for (const Step& step : program.steps()) {
    first_pointer_.push_back(pointers_.size());
    inputs_of_step_.push_back(step.inputs.size());
    for (const auto* ids : {&step.inputs, &step.outputs})
      for (ValueId id : *ids) pointers_.push_back(data(id));
  }
  first_pointer_.push_back(pointers_.size());
}

std::span<const std::byte* const> Workspace::inputs(std::size_t step) const {
  return {pointers_.data() + first_pointer_[step], inputs_of_step_[step]};
}

std::span<std::byte* const> Workspace::outputs(std::size_t step) const {
  const std::size_t first = first_pointer_[step] + inputs_of_step_[step];
  return {pointers_.data() + first, first_pointer_[step + 1] - first};
}

std::size_t Workspace::bytes_for(const Program& program, const WorkspaceLimits& limits) {
  return plan(program, limits).bytes;
}

}  // namespace millrace
