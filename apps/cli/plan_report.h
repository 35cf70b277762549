// What `millrace plan` shows.
#pragma once

#include <string>

#include "model/engine.h"
#include "model/speed_estimate.h"

namespace millrace {

// Where the expected hit rate comes from.
enum class HitRate {
  assumed,   // by the share of experts that the cache holds
  replayed,  // a recorded routing through a cache of that size
  given,
};

struct PlanReport {
  const Engine& engine;
  bool memory_given;
  MachineRates rates;
  SpeedEstimate speed;
  HitRate hit_rate;
};

std::string plan_text(const PlanReport& report);
std::string plan_json(const PlanReport& report);

}  // namespace millrace
