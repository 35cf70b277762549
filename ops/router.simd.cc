#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {

void router_scores(const float* logits, const float* bias, float* scores, float* choice,
                   std::int64_t experts) noexcept {
  const Lanes lowest = Lanes::broadcast(-__builtin_inff());
  for (std::int64_t e = 0; e < experts; e += Lanes::width) {
    const Lanes score = sigmoid(Lanes::load_first(logits + e, experts - e));
    score.store_first(scores + e, experts - e);
    max(score + Lanes::load_first(bias + e, experts - e), lowest).store_first(choice + e, experts - e);
  }
}

}  // namespace millrace::MILLRACE_ISA
