#include "model/expert_load.h"

#include <fmt/format.h>

#include <string>

#include "runtime/run_inputs.h"

namespace millrace {

bool is_inactive_row(const Batch& batch, std::int64_t row) noexcept {
  const Batch::Run* run = batch.run_of(row);
  return run != nullptr && run->inputs != nullptr && run->inputs->inactive != nullptr &&
         run->inputs->inactive[row - run->begin] != 0;
}

ExpertLoad::ExpertLoad(const ModelConfig& config) {
  for (int layer = 0; layer < static_cast<int>(config.layers.size()); ++layer)
    if (config.layers[static_cast<std::size_t>(layer)].moe) {
      counts_[layer].resize(static_cast<std::size_t>(config.router.experts));
      layer_of_value_[fmt::format("layers.{}.mlp.topk_ids", layer)] = layer;
    }
}

void ExpertLoad::after(const Program& program, const Step& step, const StepContext& context) {
  const Value& value = program.value(step.outputs[0]);
  const auto layer = layer_of_value_.find(value.name);
  if (layer == layer_of_value_.end()) return;
  std::vector<std::int64_t>& counts = counts_[layer->second];
  const std::int64_t top_k = value.row_elements();
  for (std::int64_t row = 0; row < context.rows; ++row) {
    if (is_inactive_row(context.batch, row)) continue;
    for (std::int64_t i = row * top_k; i < (row + 1) * top_k; ++i)
      ++counts[static_cast<std::size_t>(context.output<std::int32_t>(0)[i])];
  }
}

}  // namespace millrace
