#include "loader/policy_replay.h"

#include <algorithm>
#include <limits>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::int64_t never = -1;

// The experts in memory, without any memory.
class Slots {
 public:
  Slots(const RoutingTrace& trace, std::int64_t count)
      : count_(static_cast<std::size_t>(count)),
        first_(expert_offsets(trace.experts())),
        place_(first_.back(), never),
        turn_(first_.back(), 0) {}

  bool holds(int layer, int expert) const { return place_[index(layer, expert)] != never; }

  // From now on the experts of `entry` stay, until they are done().
  void begin(const RoutingTrace::Entry& entry) {
    ++time_;
    for (const ExpertUse& use : entry.uses) turn_[index(entry.layer, use.expert)] = 2 * time_ + 1;
  }
  void done(int layer, int expert) { turn_[index(layer, expert)] = 2 * time_; }

  void take(int layer, int expert, const ExpertPolicy& policy) {
    if (held_.size() < count_) {
      place_[index(layer, expert)] = std::ssize(held_);
      held_.push_back({layer, expert});
      return;
    }
    const std::size_t victim = choose(policy);
    place_[index(held_[victim].layer, held_[victim].expert)] = never;
    held_[victim] = {layer, expert};
    place_[index(layer, expert)] = static_cast<std::int64_t>(victim);
  }

 private:
  struct Held {
    int layer, expert;
  };

  std::size_t index(int layer, int expert) const {
    return first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert);
  }

  // Strangers to this entry first, then those that had their turn in it, then the one whose turn comes last.
  std::size_t choose(const ExpertPolicy& policy) const {
    std::size_t best = 0;
    int best_class = std::numeric_limits<int>::max();
    double best_worth = 0;
    for (std::size_t slot = 0; slot < held_.size(); ++slot) {
      const Held& held = held_[slot];
      const std::int64_t turn = turn_[index(held.layer, held.expert)] - 2 * time_;
      const int kind = turn < 0 ? 0 : static_cast<int>(1 + turn);
      if (kind > best_class) continue;
      const double worth = kind == 2 ? -held.expert : policy.worth(held.layer, held.expert);
      if (kind == best_class && worth >= best_worth) continue;
      best = slot;
      best_class = kind;
      best_worth = worth;
    }
    return best;
  }

  std::size_t count_;
  std::vector<std::size_t> first_;
  std::vector<std::int64_t> place_;  // of each expert its slot, or never
  std::vector<std::int64_t> turn_;   // of each expert 2 * the entry that last wanted it, plus 1 until it had its turn
  std::vector<Held> held_;
  std::int64_t time_ = 0;
};

}  // namespace

ReplayResult replay(const RoutingTrace& trace, std::int64_t slots, ExpertPolicy& policy, std::size_t warm) {
  require(slots >= 1, Errc::bad_argument, "a replay with {} slots, expected 1 or more", slots);
  Slots held(trace, slots);
  ReplayResult result;
  for (std::size_t index = 0; index < trace.size(); ++index) {
    const RoutingTrace::Entry entry = trace[index];
    policy.pass(entry.layer, entry.rows);
    for (const ExpertUse& use : entry.uses) policy.use(entry.layer, use.expert, use.rows);
    held.begin(entry);
    for (const ExpertUse& use : entry.uses) {
      const bool hit = held.holds(entry.layer, use.expert);
      if (index >= warm) ++(hit ? result.hits : result.misses);
      if (!hit) held.take(entry.layer, use.expert, policy);
      if (std::ssize(entry.uses) > slots / 2) held.done(entry.layer, use.expert);
    }
  }
  return result;
}

BeladyPolicy::BeladyPolicy(const RoutingTrace& trace) : first_(expert_offsets(trace.experts())) {
  next_.resize(first_.back(), never);
  for (std::size_t entry = 0; entry < trace.size(); ++entry)
    entry_of_.insert(entry_of_.end(), trace[entry].uses.size(), static_cast<std::int64_t>(entry));
  after_.resize(entry_of_.size(), never);
  std::size_t place = after_.size();
  for (std::size_t entry = trace.size(); entry-- > 0;) {
    const RoutingTrace::Entry of = trace[entry];
    place -= of.uses.size();
    for (std::size_t i = 0; i < of.uses.size(); ++i) {
      std::int64_t& next =
          next_[first_[static_cast<std::size_t>(of.layer)] + static_cast<std::size_t>(of.uses[i].expert)];
      after_[place + i] = next;
      next = static_cast<std::int64_t>(place + i);
    }
  }
}

void BeladyPolicy::pass(int, std::int64_t) noexcept {}

void BeladyPolicy::use(int layer, int expert, std::int64_t) noexcept {
  std::int64_t& next = next_[first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)];
  if (next != never) next = after_[static_cast<std::size_t>(next)];
}

double BeladyPolicy::worth(int layer, int expert) const noexcept {
  const std::int64_t next = next_[first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert)];
  return next == never ? -std::numeric_limits<double>::infinity()
                       : -static_cast<double>(entry_of_[static_cast<std::size_t>(next)]);
}

InformedPolicy::InformedPolicy(const RoutingTrace& trace)
    : trace_(trace),
      first_(expert_offsets(trace.experts())),
      entries_(trace.experts().size()),
      passed_(trace.experts().size()),
      shares_(first_.back()),
      wanted_(first_.back()) {
  for (std::size_t entry = 0; entry < trace.size(); ++entry)
    entries_[static_cast<std::size_t>(trace[entry].layer)].push_back(entry);
  for (const auto& of_layer : entries_) {
    layers_ += !of_layer.empty();
    for (std::size_t i = 0; i < std::min(window, of_layer.size()); ++i) count(of_layer[i], 1);
  }
}

void InformedPolicy::count(std::size_t entry, double sign) noexcept {
  const RoutingTrace::Entry of = trace_[entry];
  for (const ExpertUse& use : of.uses)
    shares_[first_[static_cast<std::size_t>(of.layer)] + static_cast<std::size_t>(use.expert)] +=
        sign * use.rows / of.rows;
}

void InformedPolicy::pass(int layer, std::int64_t) noexcept {
  const auto& of_layer = entries_[static_cast<std::size_t>(layer)];
  std::size_t& passed = passed_[static_cast<std::size_t>(layer)];
  count(entry_++, -1);
  if (++passed + window <= of_layer.size()) count(of_layer[passed + window - 1], 1);
  for (std::size_t entry = entry_; entry < trace_.size() && trace_[entry].layer > trace_[entry - 1].layer; ++entry)
    for (const ExpertUse& use : trace_[entry].uses)
      wanted_[first_[static_cast<std::size_t>(trace_[entry].layer)] + static_cast<std::size_t>(use.expert)] = entry;
}

void InformedPolicy::use(int, int, std::int64_t) noexcept {}

// By how long the slot is taken for what it is sure, or likely, to save.
double InformedPolicy::worth(int layer, int expert) const noexcept {
  const std::size_t index = first_[static_cast<std::size_t>(layer)] + static_cast<std::size_t>(expert);
  const double share = shares_[index] / window;
  if (wanted_[index] >= entry_) return 1 / static_cast<double>(wanted_[index] - entry_ + 1) + 1e-3 * share;
  return share / layers_;
}

}  // namespace millrace
