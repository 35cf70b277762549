#include "apps/common/kernels.h"

#include "ops/add.h"
#include "ops/expert_mlp.h"
#include "ops/gqa_attention.h"
#include "ops/linear_kernels.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/router.h"
#include "ops/swiglu.h"

namespace millrace {
namespace {

template <class Fn>
KernelChoice choice(const Kernel<Fn>& kernel) {
  auto tier = static_cast<std::size_t>(active_isa());
  while (kernel.variants[tier] == nullptr) --tier;
  return {.name = kernel.name, .isa = all_isas[tier]};
}

}  // namespace

std::vector<KernelChoice> chosen_kernels() {
  std::vector<KernelChoice> chosen = {choice(rms_norm_kernel),       choice(pack_bf16_kernel),
                                      choice(linear_bf16_kernel),    choice(linear_f32_kernel),
                                      choice(rope_kernel),           choice(gqa_attention_kernel),
                                      choice(router_scores_kernel),  choice(swiglu_kernel),
                                      choice(expert_combine_kernel), choice(add_kernel)};
  if (active_isa() == Isa::amx) chosen.push_back({.name = "linear_tiles", .isa = Isa::amx});
  return chosen;
}

}  // namespace millrace
