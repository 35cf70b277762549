// Trace: times every step of the passes it observes and sums up where the time goes, by kind of operator. Used by the
// computing thread. Once it has seen a step of every kind, observing allocates nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/observer.h"

namespace millrace {

class Trace final : public Observer {
 public:
  using Clock = std::chrono::steady_clock;

  // One run of a step. Points to the Program, which must outlive the trace.
  struct Event {
    const Program* program = nullptr;
    const Step* step = nullptr;
    std::int64_t rows = 0;
    Clock::time_point begin, end;
    Cost cost;

    double seconds() const noexcept { return std::chrono::duration<double>(end - begin).count(); }
  };
  // Everything steps of one kind did.
  struct KindTotal {
    std::string_view kind;
    std::int64_t steps = 0;
    double seconds = 0;
    Cost cost;
  };

  // Keeps the first `most_events` events, and of all later ones the sums only.
  explicit Trace(std::size_t most_events);

  void before(const Program& program, const Step& step) override;
  void after(const Program& program, const Step& step, const StepContext& context) override;

  std::span<const Event> events() const noexcept { return events_; }
  std::int64_t steps_left_out() const noexcept { return left_out_; }
  // In the order in which kinds first ran.
  std::span<const KindTotal> kinds() const noexcept { return kinds_; }
  // The sums over all kinds, with an empty name.
  KindTotal total() const noexcept;

  // Forgets everything but keeps the memory.
  void clear() noexcept;

 private:
  KindTotal& total_of(std::string_view kind);

  std::vector<Event> events_;
  std::vector<KindTotal> kinds_;
  std::int64_t left_out_ = 0;
  Clock::time_point begin_;
};

}  // namespace millrace
