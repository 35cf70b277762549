// ExpertHints: which experts a cache reads before anybody demands them, and whether that pays. A pure account: no I/O,
// no locks, no allocation after construction. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

class ExpertHints {
 public:
  // `most` experts of a layer.
  explicit ExpertHints(std::size_t most) { experts_.reserve(most); }

  // What `layer` may ask for, the likeliest first; replaces what is left of earlier hints. While they do not pay, only
  // one list in many is taken, to see whether that has changed.
  void take(int layer, std::span<const std::int32_t> experts);
  void clear() noexcept { next_ = experts_.size(); }

  // The expert to read next, and on to the one after it.
  bool empty() const noexcept { return next_ == experts_.size(); }
  int layer() const noexcept { return layer_; }
  int next() const noexcept { return experts_[next_]; }
  void pop() noexcept { ++next_; }

  // An expert that was read, or begun, turned out to be wanted or not.
  void came_true(bool wanted) noexcept { share_ += (static_cast<double>(wanted) - share_) / memory; }
  bool pays() const noexcept { return share_ >= least_share; }

 private:
  static constexpr double memory = 64;         // experts that the share remembers
  static constexpr double least_share = 0.25;  // a wrong one costs about a third of what a right one saves
  static constexpr int probe_every = 32;       // lists

  std::vector<std::int32_t> experts_;
  std::size_t next_ = 0;
  int layer_ = 0;
  double share_ = 1;  // of those that came true
  int lists_ = 0;
};

}  // namespace millrace
