// RoutingRecorder: keeps which experts each pass asks for, inactive rows left out. Used by the computing thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "loader/routing_trace.h"
#include "model/config.h"
#include "runtime/observer.h"

namespace millrace {

class RoutingRecorder final : public Observer {
 public:
  explicit RoutingRecorder(const ModelConfig& config);

  void after(const Program& program, const Step& step, const StepContext& context) override;

  const RoutingTrace& trace() const noexcept { return trace_; }

 private:
  RoutingTrace trace_;
  std::map<std::string, int, std::less<>> layer_of_value_;
  std::vector<std::int32_t> rows_of_expert_;
  std::vector<ExpertUse> uses_;
};

}  // namespace millrace
