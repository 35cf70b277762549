// ExpertLoad: how many rows each expert of each layer got, inactive rows left out. Used by the computing thread.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "model/config.h"
#include "runtime/observer.h"

namespace millrace {

// Whether the run of that row marks it inactive: it gets no expert.
bool is_inactive_row(const Batch& batch, std::int64_t row) noexcept;

class ExpertLoad final : public Observer {
 public:
  explicit ExpertLoad(const ModelConfig& config);

  void after(const Program& program, const Step& step, const StepContext& context) override;

  // By layer with experts: (experts) rows.
  const std::map<int, std::vector<std::int64_t>>& counts() const noexcept { return counts_; }

 private:
  std::map<int, std::vector<std::int64_t>> counts_;
  std::map<std::string, int, std::less<>> layer_of_value_;
};

}  // namespace millrace
