#include "apps/cli/eval_trace.h"

#include <algorithm>

#include "model/mtp_layer.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// A pattern that chooses nothing but values of prediction layers for which the prompt is too short.
void require_rows(const std::vector<const Program*>& programs, const std::string& pattern, std::int64_t rows) {
  const auto chosen = select_values(programs, {pattern});
  const auto first = std::find_if(chosen.begin(), chosen.end(), [](const auto& ids) { return !ids.empty(); });
  const std::int64_t layer = first - chosen.begin() - 1;
  require(first == chosen.end() || first == chosen.begin() || rows >= 2 + layer, Errc::bad_argument,
          "--trace {}: expected a prompt of at least {} tokens, found {}", pattern, 2 + layer, rows);
}

}  // namespace

EvalTrace::EvalTrace(const Engine& engine, const std::vector<std::string>& patterns, std::int64_t rows,
                     std::int64_t logits_rows)
    : engine_(engine), rows_(rows) {
  std::vector<const Program*> programs = {&engine.program()};
  for (const Program& program : engine.mtp_programs()) programs.push_back(&program);
  chosen_ = select_values(programs, patterns);
  for (const std::string& pattern : patterns) require_rows(programs, pattern, rows);
  declare(engine.program(), chosen_[0], rows, logits_rows);
  for (std::size_t index = 0; index + 1 < chosen_.size(); ++index) {
    const std::int64_t computed = rows - 1 - static_cast<std::int64_t>(index);
    if (computed <= 0) chosen_[1 + index].clear();  // no row has the token it needs
    declare(mtp_program(index), chosen_[1 + index], computed, computed);
  }
}

void EvalTrace::declare(const Program& program, std::span<const ValueId> values, std::int64_t rows,
                        std::int64_t logits_rows) {
  for (const ValueId id : values) {
    const Value& value = program.value(id);
    TensorHeader& tensor = tensors_.emplace_back();
    tensor.name = value.name;
    tensor.dtype = value.dtype;
    tensor.shape = {value.row_space == RowSpace::logits ? logits_rows : rows};
    tensor.shape.insert(tensor.shape.end(), value.row_shape.begin(), value.row_shape.end());
  }
}

void EvalTrace::write_to(SafetensorsAssembler& file, const std::filesystem::path& path) {
  for (const ValueId id : chosen_[0]) writer_.add(engine_.program(), id, file);
  bool mtp = false;
  for (std::size_t index = 0; index + 1 < chosen_.size(); ++index)
    for (const ValueId id : chosen_[1 + index]) {
      writer_.add(mtp_program(index), id, file);
      mtp = true;
    }
  if (!mtp) return;
  const ValueId hidden = engine_.program().kept()[0];
  hidden_ = &file;
  if (std::find(chosen_[0].begin(), chosen_[0].end(), hidden) != chosen_[0].end()) return;
  TensorHeader tensor;
  tensor.name = engine_.program().value(hidden).name;
  tensor.shape = {rows_, engine_.config().hidden};
  scratch_ = std::make_unique<SafetensorsAssembler>(path.string() + ".hidden", SafetensorsMetadata(),
                                                    std::vector{std::move(tensor)});
  hidden_ = scratch_.get();
  writer_.add(engine_.program(), hidden, *scratch_);
}

void EvalTrace::Writer::after(const Program& program, const Step& step, const StepContext& context) {
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const auto found = files_.find({&program, step.outputs[i]});
    if (found == files_.end()) continue;
    const Value& value = program.value(step.outputs[i]);
    found->second->append(value.name, {context.outputs[i], static_cast<std::size_t>(context.rows * value.row_bytes())});
  }
}

void EvalTrace::finish(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
                       const ForwardInputs& inputs) {
  if (hidden_ == nullptr) return;
  const std::string& name = engine_.program().value(engine_.program().kept()[0]).name;
  const auto width = static_cast<std::uint64_t>(engine_.config().hidden) * sizeof(float);
  const HiddenRows hidden = [&](std::int64_t first, std::int64_t rows, float* target) {
    hidden_->read_back(
        name, static_cast<std::uint64_t>(first) * width,
        {reinterpret_cast<std::byte*>(target), static_cast<std::size_t>(rows) * static_cast<std::size_t>(width)});
  };
  for (std::size_t index = 0; index + 1 < chosen_.size(); ++index)
    if (!chosen_[1 + index].empty())
      run_mtp_layer(engine_, static_cast<int>(index), tokens, positions, hidden, {}, &writer_, inputs);
}

}  // namespace millrace
