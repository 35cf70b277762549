#include "runtime/program.h"

#include <algorithm>
#include <cassert>

#include "runtime/error.h"
#include "runtime/observer.h"
#include "runtime/workspace.h"

namespace millrace {
namespace {

void check_rows(const Batch& batch, const WorkspaceLimits& limits) {
  const std::int64_t rows = batch.rows(), logits_rows = static_cast<std::int64_t>(batch.logits_rows.size());
  require(rows > 0 && rows <= limits.rows, Errc::bad_argument, "a batch of {} rows, expected 1 to {}", rows,
          limits.rows);
  require(logits_rows <= limits.logits_rows, Errc::bad_argument, "logits of {} rows, expected at most {}", logits_rows,
          limits.logits_rows);
  for (std::int32_t row : batch.logits_rows)
    require(row >= 0 && row < rows, Errc::bad_argument, "logits of row {} of a batch of {} rows", row, rows);
}

void check_batch(const Batch& batch, const WorkspaceLimits& limits, std::span<const LayerKvShape> kv_layers) {
  check_rows(batch, limits);
  const std::int64_t rows = batch.rows();
  require(std::ssize(batch.positions) == rows, Errc::bad_argument, "{} positions for {} tokens", batch.positions.size(),
          rows);
  std::int64_t next = 0;
  for (const Batch::Run& run : batch.runs) {
    require(run.begin == next && run.end > run.begin && run.cache != nullptr, Errc::bad_argument,
            "a batch whose runs do not cover its rows in order");
    for (const Batch::Run* earlier = batch.runs.data(); earlier != &run; ++earlier)
      require(earlier->cache != run.cache, Errc::bad_argument, "a batch that continues one cache twice");
    run.cache->reserve(run.cache->length() + run.end - run.begin);
    next = run.end;
  }
  require(next == rows || kv_layers.empty(), Errc::bad_argument, "a batch of {} rows whose runs cover {}", rows, next);
}

}  // namespace

std::int64_t Value::row_elements() const noexcept {
  std::int64_t count = 1;
  for (std::int64_t size : row_shape) count *= size;
  return count;
}

ValueId Program::find(std::string_view name) const noexcept {
  const auto found =
      std::find_if(values_.begin(), values_.end(), [&](const Value& value) { return value.name == name; });
  return found == values_.end() ? -1 : static_cast<ValueId>(found - values_.begin());
}

void Program::run(const Batch& batch, Workspace& workspace, const Parallel& parallel, Observer* observer) const {
  check_batch(batch, workspace.limits(), kv_layers_);
  require(parallel.threads() <= workspace.limits().threads, Errc::bad_argument,
          "{} threads in a workspace planned for {}", parallel.threads(), workspace.limits().threads);
  for (std::size_t i = 0; i < steps_.size(); ++i) run_step(i, batch, workspace, parallel, observer);
  for (const Batch::Run& run : batch.runs) run.cache->advance(run.end - run.begin);
}

void Program::run_logits(const Batch& batch, Workspace& workspace, const Parallel& parallel, Observer* observer) const {
  check_rows(batch, workspace.limits());
  for (std::size_t i = 0; i < steps_.size(); ++i)
    if (value(steps_[i].outputs[0]).row_space == RowSpace::logits) run_step(i, batch, workspace, parallel, observer);
}

void Program::run_step(std::size_t index, const Batch& batch, Workspace& workspace, const Parallel& parallel,
                       Observer* observer) const {
  const Step& step = steps_[index];
  const bool logits = value(step.outputs[0]).row_space == RowSpace::logits;
  const StepContext context{.batch = batch,
                            .parallel = parallel,
                            .rows = logits ? std::ssize(batch.logits_rows) : batch.rows(),
                            .inputs = workspace.inputs(index),
                            .outputs = workspace.outputs(index),
                            .scratch = workspace.scratch()};
  if (observer != nullptr) observer->before(*this, step);
  if (context.rows > 0) step.op->run(context);
  if (observer != nullptr) observer->after(*this, step, context);
}

ValueId ProgramBuilder::add_step(std::string name, std::unique_ptr<const Op> op, std::vector<ValueId> inputs,
                                 std::vector<Value> outputs) {
  assert(op != nullptr && !outputs.empty());
  const auto first = static_cast<ValueId>(program_.values_.size());
  Step& step = program_.steps_.emplace_back();
  step.name = std::move(name);
  step.op = std::move(op);
  step.inputs = std::move(inputs);
  for (Value& output : outputs) step.outputs.push_back(add_value(std::move(output)));
  return first;
}

ValueId ProgramBuilder::add_value(Value value) {
  require(program_.find(value.name) < 0, Errc::bad_argument, "two values are named {}", value.name);
  program_.values_.push_back(std::move(value));
  return static_cast<ValueId>(program_.values_.size()) - 1;
}

ValueId ProgramBuilder::add_input(Value input) {
  program_.inputs_.push_back(add_value(std::move(input)));
  return program_.inputs_.back();
}

void ProgramBuilder::keep(ValueId value) {
  assert(value >= 0 && value < std::ssize(program_.values_));
  program_.kept_.push_back(value);
}

ValueId ProgramBuilder::add(std::string name, std::unique_ptr<const Op> op, std::vector<ValueId> inputs,
                            std::vector<std::int64_t> row_shape, RowSpace row_space) {
  Value output{.name = name, .row_shape = std::move(row_shape), .dtype = Dtype::f32, .row_space = row_space};
  std::vector<Value> outputs;
  outputs.push_back(std::move(output));
  return add_step(std::move(name), std::move(op), std::move(inputs), std::move(outputs));
}

int ProgramBuilder::add_kv_layer(const LayerKvShape& shape) {
  program_.kv_layers_.push_back(shape);
  return static_cast<int>(program_.kv_layers_.size()) - 1;
}

Program ProgramBuilder::build() && {
  return std::move(program_);
}

}  // namespace millrace
