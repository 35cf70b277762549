#include "runtime/step_recorder.h"

#include <algorithm>

#include "runtime/error.h"

namespace millrace {
namespace {

std::vector<ValueId> ids_of(const Program& program, std::span<const std::string> names) {
  std::vector<ValueId> ids;
  for (const std::string& name : names) {
    ids.push_back(program.find(name));
    require(ids.back() >= 0, Errc::not_found, "no step output is named '{}'", name);
  }
  return ids;
}

}  // namespace

StepRecorder::StepRecorder(const Program& program, std::span<const ValueId> values, std::int64_t rows) {
  for (const ValueId id : values) {
    const Value& value = program.value(id);
    RecordedValue recorded{.name = value.name, .dtype = value.dtype, .shape = {0}, .data = {}};
    recorded.shape.insert(recorded.shape.end(), value.row_shape.begin(), value.row_shape.end());
    recorded.data.reserve(static_cast<std::size_t>(rows * value.row_bytes()));
    index_.emplace(id, values_.size());
    values_.push_back(std::move(recorded));
  }
}

StepRecorder::StepRecorder(const Program& program, std::span<const std::string> names, std::int64_t rows)
    : StepRecorder(program, ids_of(program, names), rows) {}

void StepRecorder::after(const Program& program, const Step& step, const StepContext& context) {
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const auto found = index_.find(step.outputs[i]);
    if (found == index_.end()) continue;
    RecordedValue& recorded = values_[found->second];
    const std::byte* rows = context.outputs[i];
    recorded.data.insert(recorded.data.end(), rows, rows + context.rows * program.value(step.outputs[i]).row_bytes());
    recorded.shape[0] += context.rows;
  }
}

const RecordedValue& StepRecorder::value(std::string_view name) const {
  const auto found =
      std::find_if(values_.begin(), values_.end(), [&](const RecordedValue& value) { return value.name == name; });
  require(found != values_.end(), Errc::not_found, "'{}' was not recorded", name);
  return *found;
}

}  // namespace millrace
