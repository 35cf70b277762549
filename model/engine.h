// Engine: opens a checkpoint folder and is the only type applications construct. Holds the weights, the Program, the
// tokenizer and the generation defaults; immutable once open, so sessions share it. It must outlive its sessions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loader/disk_reader.h"
#include "loader/expert_cache_stats.h"
#include "model/config.h"
#include "model/generation_config.h"
#include "model/memory_plan.h"
#include "runtime/numerics.h"
#include "runtime/parallel.h"
#include "runtime/program.h"
#include "runtime/workspace.h"

namespace millrace {

class Checkpoint;
class Tokenizer;
struct ToolFormat;

// Which hidden state a multi-token-prediction layer reads.
enum class MtpWiring {
  target,   // every layer that of the main model (SGLang); guesses better
  chained,  // layer k > 0 what left layer k - 1 (DeepSeek-V3 report, 2.2)
};

// In what the router multiplies. Transformers does in fp32 whatever the configuration says; vLLM follows it.
enum class RouterDtype {
  f32,
  bf16,   // operands and logits rounded
  match,  // as the configuration says (moe_router_dtype)
};

struct EngineOptions {
  int threads = 0;  // 0 = the processors this process may run on
  Numerics numerics = Numerics::fast;
  std::optional<WeightFormat> weights;  // none = chosen for this machine
  // Ceiling of what the process takes, in bytes; 0 = what is free when the engine opens, but for a margin. Opening
  // fails with Error(out_of_memory) if it is too little; experts that do not fit are read when they are wanted.
  std::uint64_t memory = 0;
  std::uint64_t aside = 0;    // of it, for what the application takes itself: buffers, results it is handed
  std::int64_t sessions = 1;  // that will be full at the same time, for which memory is set aside
  std::int64_t context = 0;   // most tokens of a session; 0 = the model's own limit, or less where memory is short
  std::int64_t chunk = 0;     // most rows of one pass; 0 = 512, or more where many experts share them
  MachineRates rates;         // for that choice
  std::int64_t window = 0;    // overrides the visible keys of sliding layers; 0 = as configured
  int mtp_layers = 0;         // multi-token-prediction layers to load; at most those the files hold
  MtpWiring mtp_wiring = MtpWiring::target;
  RouterDtype router_dtype = RouterDtype::f32;
  // Bytes of the cache of experts that are read when they are wanted; 0 = all experts in memory if they fit, else a
  // cache in what the plan leaves.
  std::uint64_t expert_cache_bytes = 0;
  DiskIo expert_io = DiskIo::automatic;
  bool expert_overlap = true;  // experts are read while others are multiplied, and ahead of layers; off to compare
  std::vector<std::filesystem::path> expert_dirs;  // folders with copies of the files, on other disks
  bool headers_only = false;   // checks and plans everything, reads no weights; such an engine cannot compute
  bool absent_shards = false;  // with headers_only: files that the index names may be missing (Shards::planned)
  // Called on the opening thread with the bytes read so far and in all.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

class Engine {
 public:
  // Throws Error naming the file and the tensor or key, what was expected and what was found.
  static std::unique_ptr<Engine> open(const std::filesystem::path& folder, const EngineOptions& options = {});
  ~Engine();

  const ModelConfig& config() const noexcept;
  const Program& program() const noexcept;
  // One per multi-token-prediction layer that was loaded (EngineOptions::mtp_layers).
  std::span<const Program> mtp_programs() const noexcept;
  // The same to guess by: of large vocabularies the logits are estimates, but for the largest.
  std::span<const Program> draft_programs() const noexcept;
  MtpWiring mtp_wiring() const noexcept;
  // Multi-token-prediction layers in the files that can be loaded.
  int mtp_layers_in_files() const noexcept;
  const Parallel& parallel() const noexcept;
  const Checkpoint& checkpoint() const noexcept;
  const GenerationConfig& generation() const noexcept;
  Numerics numerics() const noexcept;
  WeightFormat weight_format() const noexcept;
  std::int64_t context() const noexcept;
  std::int64_t chunk() const noexcept;
  Dtype kv_dtype() const noexcept;  // f32 in numerics that keep fp32, else bf16
  // What an executor's working memory is planned for.
  WorkspaceLimits workspace_limits() const noexcept;
  // What was planned before anything was loaded; with headers_only also for a budget that is too small.
  const MemoryPlan& plan() const noexcept;
  // What the cache of experts did so far; none where there is no cache.
  std::optional<ExpertCacheStats> expert_stats() const;
  // Throws Error(io) if a file that weights are read from in place shrank. Cheap: called before every pass.
  void check_files() const;

  // Throws Error(not_found) for a folder without tokenizer files.
  const Tokenizer& tokenizer() const;
  bool has_tokenizer() const noexcept;
  // How this family writes reasoning and tool calls.
  const ToolFormat& tool_format() const noexcept;
  // Ids that end a generation: generation_config.json, config.json and the tokens that end a turn by name.
  const std::vector<std::int32_t>& stop_ids() const noexcept;
  // What an application should tell its user: each a sentence naming the file, what is odd and what was assumed.
  const std::vector<std::string>& warnings() const noexcept;
  // Tensors of the checkpoint that the model does not use (multi-token-prediction layers, other towers).
  std::vector<std::string> unused_tensors() const;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace millrace
