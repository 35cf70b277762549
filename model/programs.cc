#include "model/programs.h"

#include <fmt/format.h>

#include <functional>
#include <utility>

#include "loader/weight_store.h"

namespace millrace {

std::vector<ExpertLayer> expert_layers(const ModelConfig& config) {
  std::vector<ExpertLayer> layers;
  for (std::size_t index = 0; index < config.layers.size(); ++index)
    if (config.layers[index].moe)
      layers.push_back({.layer = static_cast<int>(index),
                        .prefix = fmt::format("layers.{}.mlp.experts", index),
                        .experts = config.router.experts,
                        .width = config.layers[index].width,
                        .hidden = config.hidden});
  return layers;
}

Programs build_programs(const Family& family, const ModelConfig& config, WeightStore& weights, ExpertSource& experts,
                        std::int64_t context, bool hints) {
  const auto build = [&](const std::function<void(BuildContext&)>& append, bool drafts = false) {
    ProgramBuilder builder;
    BuildContext build_context = {.config = config,
                                  .weights = weights,
                                  .experts = experts,
                                  .builder = builder,
                                  .numerics = weights.options().numerics,
                                  .context = context,
                                  .drafts = drafts,
                                  .hints = hints};
    append(build_context);
    return std::move(builder).build();
  };
  Programs programs{.main = build(family.build), .mtp = {}, .drafts = {}};
  for (int index = 0; index < weights.options().mtp_layers; ++index) {
    const auto append = [&](BuildContext& build_context) { family.build_mtp(build_context, index); };
    programs.mtp.push_back(build(append));
    programs.drafts.push_back(build(append, true));
  }
  return programs;
}

}  // namespace millrace
