// Which experts a cache keeps. A policy only keeps accounts: no I/O, no locks, no allocation after construction. Of two
// experts that could leave, the one worth less does. One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

// Where the experts of each layer begin when all are counted through, and at the end how many there are.
std::vector<std::size_t> expert_offsets(std::span<const std::int32_t> experts);

class ExpertPolicy {
 public:
  virtual ~ExpertPolicy() = default;

  // A pass of `rows` rows has come to `layer`; its use() calls follow.
  virtual void pass(int layer, std::int64_t rows) noexcept = 0;
  // `rows` rows of that pass want the expert.
  virtual void use(int layer, int expert, std::int64_t rows) noexcept = 0;
  // What keeping the expert is worth now, at the layer of the last pass(); only the order counts.
  virtual double worth(int layer, int expert) const noexcept = 0;
};

// Frequency with recency: how often an expert was used lately, at five rates of forgetting, and how long ago it was
// used last. What each of these says about the next row differs between models and texts, so their weights are fitted,
// by least squares, to what the passes so far have asked for. Found best by replay (policy_replay.h): mixtures with
// fixed weights lose to LRU where texts keep to a subject, LRU loses everywhere else.
// Layers come in turn: an expert of the layer just passed takes its slot for a whole token until it can be of use, one
// of the coming layer for a moment. So what an expert is likely to save is divided by how long its slot is taken, until
// its next turn and for some tokens that it may stay.
class FrequencyPolicy final : public ExpertPolicy {
 public:
  // `experts` of each layer, 0 for a dense one.
  explicit FrequencyPolicy(std::span<const std::int32_t> experts);

  void pass(int layer, std::int64_t rows) noexcept override;
  void use(int layer, int expert, std::int64_t rows) noexcept override;
  double worth(int layer, int expert) const noexcept override;

 private:
  static constexpr std::size_t rates = 5, signs = rates + 1;
  using Signs = std::array<double, signs>;
  struct Account {
    std::array<double, rates> shares{};  // of the rows that wanted the expert, the older the less they count
    double age = 1e6;                    // rows since one did
  };
  static Signs signs_of(const Account& account) noexcept;
  void fit() noexcept;

  std::vector<std::size_t> first_;  // by layer
  std::vector<int> turn_;           // of each layer in a pass, layers without experts left out
  int turns_ = 0, turn_now_ = 0;
  std::vector<Account> accounts_;
  std::vector<Signs> before_;  // of the experts of the present layer, as they were before this pass
  double pass_rows_ = 1;
  std::array<double, rates> fresh_{};  // what a use by all rows of this pass adds to each share
  // The normal equations: sums of signs * signs and of signs * share of the rows that wanted the expert; older passes
  // fade.
  std::array<Signs, signs> products_{};
  Signs targets_{};
  double keep_ = 1;  // of those sums, by a pass
  std::int64_t passes_ = 0;
  Signs weights_;
};

// The least recently used leaves first. For comparison.
class LruPolicy final : public ExpertPolicy {
 public:
  explicit LruPolicy(std::span<const std::int32_t> experts);

  void pass(int layer, std::int64_t rows) noexcept override;
  void use(int layer, int expert, std::int64_t rows) noexcept override;
  double worth(int layer, int expert) const noexcept override;

 private:
  std::vector<std::size_t> first_;  // by layer
  std::vector<std::int64_t> last_use_;
  std::int64_t clock_ = 0;
};

}  // namespace millrace
