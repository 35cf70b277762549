#include "model/routing_recorder.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/expert_load.h"

namespace millrace {
namespace {

std::vector<std::int32_t> experts_of_layers(const ModelConfig& config) {
  std::vector<std::int32_t> experts;
  for (const LayerSpec& layer : config.layers)
    experts.push_back(layer.moe ? static_cast<std::int32_t>(config.router.experts) : 0);
  return experts;
}

}  // namespace

RoutingRecorder::RoutingRecorder(const ModelConfig& config)
    : trace_(experts_of_layers(config)), rows_of_expert_(static_cast<std::size_t>(config.router.experts)) {
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer)
    if (config.layers[layer].moe)
      layer_of_value_[fmt::format("layers.{}.mlp.topk_ids", layer)] = static_cast<int>(layer);
}

void RoutingRecorder::after(const Program& program, const Step& step, const StepContext& context) {
  const Value& value = program.value(step.outputs[0]);
  const auto layer = layer_of_value_.find(value.name);
  if (layer == layer_of_value_.end()) return;
  const std::int64_t top_k = value.row_elements();
  std::fill(rows_of_expert_.begin(), rows_of_expert_.end(), 0);
  std::int32_t rows = 0;
  for (std::int64_t row = 0; row < context.rows; ++row) {
    if (is_inactive_row(context.batch, row)) continue;
    ++rows;
    for (std::int64_t i = row * top_k; i < (row + 1) * top_k; ++i)
      ++rows_of_expert_[static_cast<std::size_t>(context.output<std::int32_t>(0)[i])];
  }
  if (rows == 0) return;
  uses_.clear();
  for (std::size_t expert = 0; expert < rows_of_expert_.size(); ++expert)
    if (rows_of_expert_[expert] > 0) uses_.push_back({static_cast<std::int32_t>(expert), rows_of_expert_[expert]});
  trace_.add(layer->second, rows, uses_);
}

}  // namespace millrace
