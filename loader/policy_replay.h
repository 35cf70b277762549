// Replays a recorded routing against a cache of a given size, without reading anything: how policies are compared.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/expert_policy.h"
#include "loader/routing_trace.h"

namespace millrace {

struct ReplayResult {
  std::int64_t hits = 0, misses = 0;

  double hit_rate() const noexcept {
    return hits + misses > 0 ? static_cast<double>(hits) / static_cast<double>(hits + misses) : 0;
  }
};

// Runs the trace through a cache of `slots` experts that keeps what `policy` finds worth most. The experts of one layer
// of a pass stay while it lasts, as far as the slots allow; then those still to come are kept over those that had their
// turn. Hits before entry `warm` are not counted. Throws Error(bad_argument) without slots.
ReplayResult replay(const RoutingTrace& trace, std::int64_t slots, ExpertPolicy& policy, std::size_t warm = 0);

// Who knows the future: what is used again last, or never, leaves first. The most hits any policy can have; for
// replay() of the same trace only.
// Source: Belady, A study of replacement algorithms for a virtual-storage computer, 1966.
class BeladyPolicy final : public ExpertPolicy {
 public:
  explicit BeladyPolicy(const RoutingTrace& trace);

  void pass(int layer, std::int64_t rows) noexcept override;
  void use(int layer, int expert, std::int64_t rows) noexcept override;
  double worth(int layer, int expert) const noexcept override;

 private:
  std::vector<std::size_t> first_;      // by layer, in what follows
  std::vector<std::int64_t> next_;      // the coming use of each expert, as an index of after_
  std::vector<std::int64_t> after_;     // of each use in the trace, the one that follows it
  std::vector<std::int64_t> entry_of_;  // of each use in the trace, when it is
};

}  // namespace millrace
