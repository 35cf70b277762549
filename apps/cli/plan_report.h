// What `millrace plan` shows.
#pragma once

#include <string>

#include "model/engine.h"
#include "model/speed_estimate.h"

namespace millrace {

struct PlanReport {
  const Engine& engine;
  bool memory_given;
  MachineRates rates;
  SpeedEstimate speed;
};

std::string plan_text(const PlanReport& report);
std::string plan_json(const PlanReport& report);

}  // namespace millrace
