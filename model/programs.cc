#include "model/programs.h"

#include <functional>
#include <utility>

#include "loader/weight_store.h"

namespace millrace {

Programs build_programs(const Family& family, const ModelConfig& config, WeightStore& weights, ExpertSource& experts,
                        std::int64_t context, bool hints) {
  const auto build = [&](const std::function<void(BuildContext&)>& append) {
    ProgramBuilder builder;
    BuildContext build_context = {.config = config,
                                  .weights = weights,
                                  .experts = experts,
                                  .builder = builder,
                                  .numerics = weights.options().numerics,
                                  .context = context,
                                  .hints = hints};
    append(build_context);
    return std::move(builder).build();
  };
  Programs programs{.main = build(family.build), .mtp = {}};
  for (int index = 0; index < weights.options().mtp_layers; ++index)
    programs.mtp.push_back(build([&](BuildContext& build_context) { family.build_mtp(build_context, index); }));
  return programs;
}

}  // namespace millrace
