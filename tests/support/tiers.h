// Walking the ISA tiers of this machine in tests.
#pragma once

#include <vector>

#include "ops/isa.h"

namespace millrace::test {

inline std::vector<Isa> present_tiers() {
  std::vector<Isa> tiers;
  for (Isa isa : all_isas)
    if (isa_supported(isa)) tiers.push_back(isa);
  return tiers;
}

// Sets the tier for a scope and puts the previous one back.
class WithIsa {
 public:
  explicit WithIsa(Isa isa) : previous_(active_isa()) { limit_isa(isa); }
  ~WithIsa() { limit_isa(previous_); }
  WithIsa(const WithIsa&) = delete;
  WithIsa& operator=(const WithIsa&) = delete;

 private:
  Isa previous_;
};

}  // namespace millrace::test
