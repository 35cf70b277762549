#include "loader/expert_hints.h"

#include <algorithm>

namespace millrace {

void ExpertHints::take(int layer, std::span<const std::int32_t> experts) {
  clear();
  if (!pays() && ++lists_ % probe_every != 0) return;
  layer_ = layer;
  next_ = 0;
  experts_.assign(experts.begin(),
                  experts.begin() + static_cast<std::ptrdiff_t>(std::min(experts.size(), experts_.capacity())));
}

}  // namespace millrace
