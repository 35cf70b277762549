#include "runtime/trace.h"

#include <algorithm>

namespace millrace {

Trace::Trace(std::size_t most_events) {
  events_.reserve(most_events);
}

void Trace::before(const Program&, const Step&) {
  begin_ = Clock::now();
}

void Trace::after(const Program& program, const Step& step, const StepContext& context) {
  Event event{.program = &program, .step = &step, .rows = context.rows, .begin = begin_, .end = Clock::now()};
  if (context.rows > 0) event.cost = step.op->cost(context);
  KindTotal& kind = total_of(step.op->kind());
  ++kind.steps;
  kind.seconds += event.seconds();
  kind.cost += event.cost;
  if (events_.size() < events_.capacity())
    events_.push_back(event);
  else
    ++left_out_;
}

Trace::KindTotal& Trace::total_of(std::string_view kind) {
  const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const KindTotal& k) { return k.kind == kind; });
  return found != kinds_.end() ? *found : kinds_.emplace_back(KindTotal{.kind = kind});
}

Trace::KindTotal Trace::total() const noexcept {
  KindTotal sum;
  for (const KindTotal& kind : kinds_) {
    sum.steps += kind.steps;
    sum.seconds += kind.seconds;
    sum.cost += kind.cost;
  }
  return sum;
}

void Trace::clear() noexcept {
  events_.clear();
  kinds_.clear();
  left_out_ = 0;
}

}  // namespace millrace
