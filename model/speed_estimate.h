// What a model should reach on a machine, from the costs its operators state and the machine's rates: for plans, and to
// choose how many tokens of a prompt share a pass.
#pragma once

#include <cstdint>
#include <optional>

#include "model/memory_plan.h"

namespace millrace {

enum class Resource { disk, memory, compute };
const char* name_of(Resource resource) noexcept;

// Seconds per token that each resource is busy; they overlap.
struct ResourceTimes {
  double disk = 0, memory = 0, compute = 0;
  Resource limit() const noexcept;
  double seconds() const noexcept;
  double tokens_per_second() const noexcept { return 1 / seconds(); }
};

struct SpeedEstimate {
  double hit_rate = 1;           // of the experts that decoding asks for, those that are in memory
  double expert_bytes = 0;       // that a decoded token needs
  double decode_read_bytes = 0;  // of them from the disk
  ResourceTimes decode;          // one session, a short context
  std::int64_t prompt_tokens = 0;
  double prefill_read_bytes = 0;  // for the whole prompt
  ResourceTimes prefill;
};

// Hits of a cache that holds `share` of all experts: more than chance, for texts keep to some of them.
double expected_hit_rate(double share) noexcept;

SpeedEstimate estimate_speed(const Program& program, const ModelConfig& config, const MemoryPlan& plan,
                             const MachineRates& rates, std::optional<double> hit_rate = std::nullopt);

// Rows of a pass for which computing takes as long as reading `read_bytes` of experts, from 512 to 8192; 512 without
// any to read.
std::int64_t break_even_chunk(const Program& program, const ModelConfig& config, double read_bytes,
                              const MachineRates& rates);

}  // namespace millrace
