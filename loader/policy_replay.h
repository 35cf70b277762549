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

// Who knows the future: what is used again last, or never, leaves first. The most hits any policy can have under the
// rules of replay(), where what is read takes a slot; for replay() of the same trace only.
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

// Who knows more than what has happened so far can tell: of the pass that is under way, what its coming layers ask for;
// and how often each expert is used in the next `window` passes, but not when. Where this is far from Belady, so is
// every policy that does not know the future. For replay() of the same trace only.
class InformedPolicy final : public ExpertPolicy {
 public:
  static constexpr std::size_t window = 32;

  // `trace` must outlive it.
  explicit InformedPolicy(const RoutingTrace& trace);

  void pass(int layer, std::int64_t rows) noexcept override;
  void use(int layer, int expert, std::int64_t rows) noexcept override;
  double worth(int layer, int expert) const noexcept override;

 private:
  void count(std::size_t entry, double sign) noexcept;

  const RoutingTrace& trace_;
  std::vector<std::size_t> first_;                 // by layer
  std::vector<std::vector<std::size_t>> entries_;  // of each layer
  std::vector<std::size_t> passed_;                // of these, how many were
  std::size_t entry_ = 0;                          // the coming one
  double layers_ = 0;                              // with experts
  std::vector<double> shares_;                     // of each expert, summed over the coming passes
  std::vector<std::size_t> wanted_;                // of each expert, the entry of this pass that wants it
};

}  // namespace millrace
