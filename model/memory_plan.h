// MemoryPlan: what a process with one engine will hold in memory, by what it is for, decided from headers before
// anything is loaded. The budget is a ceiling: what is left of it beside everything that must be there becomes the
// cache of experts. A plain value.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "model/config.h"
#include "runtime/machine.h"
#include "runtime/program.h"
#include "runtime/workspace.h"

namespace millrace {

enum class MtpWiring;
struct Programs;
class WeightStore;

struct MemoryPlan {
  struct Weights {
    std::uint64_t embedding = 0, attention = 0, dense_mlp = 0, routers_and_norms = 0, head = 0, mtp = 0;
    std::uint64_t total() const noexcept { return embedding + attention + dense_mlp + routers_and_norms + head + mtp; }
  };
  struct Experts {
    std::int64_t count = 0;            // of all layers
    std::uint64_t file_bytes = 0;      // of all of them in the files
    std::uint64_t resident_bytes = 0;  // of all of them in memory, as the engine would hold them
    std::uint64_t slot_bytes = 0;      // of one in the cache
    std::int64_t least_slots = 0;
    bool resident = true;           // all of them are loaded when the engine opens; else they are read on demand
    std::uint64_t cache_bytes = 0;  // then
    std::int64_t slots() const noexcept;
    double share() const noexcept;  // of all experts that are in memory at a time
  };

  std::uint64_t budget = 0;        // of the process; UINT64_MAX where nothing is known
  std::uint64_t process = 0;       // the program itself, the files' headers, the tokenizer
  std::uint64_t aside = 0;         // of the application, as it says (EngineOptions::aside)
  std::uint64_t loading = 0;       // reading weights; given back before sessions and passes take theirs
  bool dequantized = false;        // FP8 weights are held in bf16, twice as large
  Weights weights;                 // everything but experts
  std::int64_t context = 0;        // tokens of a session
  std::int64_t sessions = 1;       // that are full at the same time
  std::uint64_t kv_per_token = 0;  // of one session, full layers
  // Of one session: rings of the window layers, and what a long pass copies in case it fails.
  std::uint64_t kv_fixed = 0;
  std::uint64_t session_work = 0;  // of one session: logits, sampling, what its prediction layers work with
  std::int64_t chunk = 0;          // rows of a pass
  std::uint64_t workspace = 0;     // of one executor
  Experts experts;

  std::uint64_t kv() const noexcept;       // of all sessions, full
  std::uint64_t working() const noexcept;  // what sessions and passes take
  std::uint64_t other() const noexcept;    // everything but experts, at its most
  std::uint64_t total() const noexcept;    // at most the budget if fits()
  std::uint64_t least() const noexcept;    // the smallest budget that would do, with this context and these sessions
  bool fits() const noexcept { return least() <= budget; }
  // Throws Error(out_of_memory) saying how much is needed at least, what for, and what would help, unless fits().
  void check(const std::string& model) const;
  // Throws Error(out_of_memory) saying what is planned unless a pass of `rows` rows may take so many bytes.
  void check_pass(std::int64_t rows, std::uint64_t bytes) const;
};

// What a plan is made of.
struct PlanInputs {
  const Programs& programs;
  const ModelConfig& config;
  const WeightStore& weights;     // after build_programs
  MemoryPlan::Experts experts;    // but for resident and cache_bytes
  std::uint64_t loading_experts;  // what reading all of them into memory takes beside them
  Dtype kv_dtype;
  MtpWiring mtp_wiring;
  int threads;
  std::uint64_t memory;   // ceiling of the process; 0 = free_memory()
  std::uint64_t aside;    // of it, for the application
  std::int64_t context;   // 0 = the model's own, or less if that takes too much of the budget
  std::int64_t sessions;  // 1 or more
  std::int64_t chunk;     // 0 = chosen
  MachineRates rates;
};

MemoryPlan plan_memory(const PlanInputs& inputs);

// For passes of one sequence. Logits of more rows are computed in blocks of so many.
WorkspaceLimits pass_limits(std::int64_t chunk, std::int64_t context, std::size_t mtp_layers, int threads) noexcept;

// What this process may take by default: what it has, and what is free but for a margin.
std::uint64_t free_memory() noexcept;

}  // namespace millrace
