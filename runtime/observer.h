// Observer: the one seam through which a pass is watched. Tracing, dumps, golden comparison, profiling and cancellation
// are observers; a step costs one branch when there is none.
#pragma once

#include <utility>
#include <vector>

#include "runtime/program.h"

namespace millrace {

class Observer {
 public:
  virtual ~Observer() = default;
  // Called on the computing thread. Throwing ends the pass; Error(cancelled) is the polite way.
  virtual void before([[maybe_unused]] const Program& program, [[maybe_unused]] const Step& step) {}
  // The step's outputs are valid during the call only: later steps reuse their memory.
  virtual void after(const Program& program, const Step& step, const StepContext& context) = 0;
};

// Several observers, called in their order. They are not owned.
class ObserverList final : public Observer {
 public:
  explicit ObserverList(std::vector<Observer*> observers) : observers_(std::move(observers)) {}
  void before(const Program& program, const Step& step) override {
    for (Observer* observer : observers_) observer->before(program, step);
  }
  void after(const Program& program, const Step& step, const StepContext& context) override {
    for (Observer* observer : observers_) observer->after(program, step, context);
  }

 private:
  std::vector<Observer*> observers_;
};

}  // namespace millrace
