#include "model/engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/checkpoint.h"
#include "loader/expert_store.h"
#include "loader/tokenizer.h"
#include "loader/weight_store.h"
#include "model/config_reader.h"
#include "model/family.h"
#include "model/programs.h"
#include "ops/isa.h"
#include "runtime/error.h"
#include "runtime/workspace.h"

namespace millrace {
namespace {

void set_window(ModelConfig& config, std::int64_t window, const std::string& file) {
  bool slides = false;
  const auto set = [&](LayerSpec& layer) {
    if (layer.attention != AttentionKind::sliding) return;
    layer.window = window;
    slides = true;
  };
  std::for_each(config.layers.begin(), config.layers.end(), set);
  set(config.mtp_layer);
  require(slides, Errc::bad_argument, "a window of {} keys, but {} has no sliding layers", window, file);
}

ModelConfig read_config(const Checkpoint& checkpoint, const EngineOptions& options, const Family*& family) {
  const std::string file = checkpoint.path() + "/config.json";
  require(checkpoint.has_config(), Errc::not_found, "{}: no such file; a model folder needs one", file);
  family = &family_of(checkpoint.config_text(), file, &checkpoint);
  ModelConfig config = family->parse_config(checkpoint.config_text(), file);
  if (!is_named(*family, config.architecture, config.model_type))
    config.warnings.push_back(
        fmt::format("{}: architecture \"{}\" with model_type \"{}\", but the tensors are those of {}", file,
                    shown(config.architecture), shown(config.model_type), family->name));
  if (options.router_dtype != RouterDtype::match)
    config.router.dtype = options.router_dtype == RouterDtype::bf16 ? Dtype::bf16 : Dtype::f32;
  require(config.router.dtype == Dtype::f32 || !keeps_f32(options.numerics), Errc::bad_argument,
          "a router in bf16, but these numerics keep everything in fp32");
  require(options.window >= 0, Errc::bad_argument, "window is {}, expected 1 or more visible keys", options.window);
  if (options.window > 0) set_window(config, options.window, file);
  return config;
}

int mtp_layers_of(const Checkpoint& checkpoint, const Family& family) {
  int layers = 0;
  if (family.build_mtp != nullptr)
    for (const auto& [name, stored] : checkpoint.tensors()) layers = std::max(layers, mtp_layer_of(name) + 1);
  return layers;
}

// Where nothing would be quantized, the name of the numerics would promise what the result is not.
void check_numerics(const Checkpoint& checkpoint, Numerics numerics) {
  require(!quantizes_inputs(numerics) || checkpoint.holds(Dtype::f8_e4m3), Errc::bad_argument,
          "{}: w8a8 numerics quantize the inputs of FP8 weights, but no tensor here is F8_E4M3; use f32 or hf",
          checkpoint.path());
}

std::int64_t context_of(const ModelConfig& config, const EngineOptions& options) {
  require(options.context >= 0 && options.context <= config.max_positions, Errc::bad_argument,
          "a context of {} tokens, expected 1 to {} (max_position_embeddings)", options.context, config.max_positions);
  return options.context > 0 ? options.context : config.max_positions;
}

// Of memory that loading takes for what it reads ahead, beyond its least: more does not help.
constexpr std::uint64_t most_read_ahead = std::uint64_t{112} << 20;

Dtype kv_dtype_of(Numerics numerics) noexcept {
  return keeps_f32(numerics) ? Dtype::f32 : Dtype::bf16;
}

// Null for a folder without tokenizer files: token ids can be used all the same.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& folder) {
  try {
    return std::make_unique<Tokenizer>(Tokenizer::open(folder));
  } catch (const Error& error) {
    if (error.code() != Errc::not_found) throw;
    return nullptr;
  }
}

// generation_config.json and config.json often name one stop token only, so those the family ends turns with count too.
std::vector<std::int32_t> stop_ids_of(const ModelConfig& config, const GenerationConfig& generation,
                                      const Family& family, const Tokenizer* tokenizer) {
  std::vector<std::int32_t> ids = generation.eos_ids;
  ids.insert(ids.end(), config.eos_ids.begin(), config.eos_ids.end());
  for (std::string_view name : family.stop_tokens)
    if (tokenizer != nullptr)
      if (const auto id = tokenizer->id_of(name)) ids.push_back(*id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

struct Engine::State {
  State(Checkpoint opened, const EngineOptions& options);
  void build(bool hints);
  MemoryPlan::Experts planned_experts() const;
  MemoryPlan make_plan(const EngineOptions& options);
  void load(const EngineOptions& options);

  Checkpoint checkpoint;
  const Family* family = nullptr;
  ModelConfig config;
  int mtp_layers_in_files;
  MtpWiring mtp_wiring;
  Numerics numerics;
  std::int64_t context;
  Parallel parallel;
  WeightStore weights;
  ExpertStore experts;
  Programs programs;
  bool with_hints = false;
  MemoryPlan plan;
  GenerationConfig generation;
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::int32_t> stop_ids;
};

Engine::State::State(Checkpoint opened, const EngineOptions& options)
    : checkpoint(std::move(opened)),
      config(read_config(checkpoint, options, family)),
      mtp_layers_in_files(mtp_layers_of(checkpoint, *family)),
      mtp_wiring(options.mtp_wiring),
      numerics(options.numerics),
      context(context_of(config, options)),
      parallel(options.threads == 0 ? available_processors() : options.threads),
      weights(checkpoint, {.numerics = options.numerics,
                           // FP8 halves the bytes a token reads, which is what decoding waits for.
                           .format = options.weights.value_or(WeightFormat::fp8),
                           .parallel = &parallel,
                           .progress = options.progress,
                           .resident = true,
                           .mtp_layers = std::min(options.mtp_layers, mtp_layers_in_files),
                           .headers_only = true}),
      experts(weights, expert_layers(config)) {
  require(options.chunk >= 0, Errc::bad_argument, "a chunk of {} rows, expected 1 or more", options.chunk);
  require(options.mtp_layers >= 0, Errc::bad_argument, "{} prediction layers, expected 0 or more", options.mtp_layers);
  check_numerics(checkpoint, numerics);
  generation = read_generation_config(checkpoint.path());
  tokenizer = open_tokenizer(checkpoint.path());
  stop_ids = stop_ids_of(config, generation, *family, tokenizer.get());
  const bool hints = options.expert_io != DiskIo::mapped && options.expert_overlap;
  build(hints);
  plan = make_plan(options);
  if (plan.context < context) {
    context = plan.context;
    build(hints);
    plan = make_plan(options);
  }
  if (plan.experts.resident && hints) build(false);  // takes no more than was planned
  if (!options.headers_only) load(options);
}

// Of headers only.
void Engine::State::build(bool hints) {
  with_hints = hints;
  weights.start_over();
  programs = build_programs(*family, config, weights, experts, context, hints);
}

MemoryPlan::Experts Engine::State::planned_experts() const {
  return {.count = experts.count(),
          .file_bytes = experts.file_bytes(),
          .resident_bytes = experts.resident_bytes(),
          .slot_bytes = experts.slot_bytes(),
          .least_slots = std::min(experts.count(), static_cast<std::int64_t>(ExpertCache::least_slots))};
}

MemoryPlan Engine::State::make_plan(const EngineOptions& options) {
  MemoryPlan planned = plan_memory({.programs = programs,
                                    .config = config,
                                    .weights = weights,
                                    .experts = planned_experts(),
                                    .loading_experts = experts.preload_bytes(),
                                    .kv_dtype = kv_dtype_of(numerics),
                                    .mtp_wiring = mtp_wiring,
                                    .threads = parallel.threads(),
                                    .memory = options.memory,
                                    .aside = options.aside,
                                    .context = context < config.max_positions ? context : options.context,
                                    .sessions = options.sessions,
                                    .chunk = options.chunk,
                                    .rates = options.rates});
  if (options.expert_cache_bytes == 0) return planned;
  planned.experts.resident = false;
  planned.experts.cache_bytes = options.expert_cache_bytes;
  return planned;
}

// Experts are copied into memory when they fit; otherwise each is read when a token needs it.
void Engine::State::load(const EngineOptions& options) {
  plan.check(checkpoint.path());
  // What conversations will take is free until the first begins.
  const std::uint64_t spare = plan.working() - std::min(plan.working(), plan.loading);
  const auto ahead = static_cast<std::size_t>(std::min(most_read_ahead, spare));
  weights.start_loading(ahead / 2);
  programs = build_programs(*family, config, weights, experts, context, with_hints);
  weights.finish_loading();
  for (std::string& warning : weights.warnings()) config.warnings.push_back(std::move(warning));
  if (plan.experts.resident) return experts.preload(options.progress, ahead);
  if (options.expert_io == DiskIo::mapped) return experts.stay_mapped(plan.experts.cache_bytes);
  experts.stream({.bytes = plan.experts.cache_bytes,
                  .io = options.expert_io,
                  .copies = options.expert_dirs,
                  .overlap = options.expert_overlap});
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::open(const std::filesystem::path& folder, const EngineOptions& options) {
  active_isa();  // a wrong MILLRACE_ISA is reported before anything is read
  const Shards shards = options.headers_only && options.absent_shards ? Shards::planned : Shards::all;
  auto state = std::make_unique<State>(Checkpoint::open(folder.string(), shards), options);
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

const ModelConfig& Engine::config() const noexcept {
  return state_->config;
}
const Program& Engine::program() const noexcept {
  return state_->programs.main;
}
std::span<const Program> Engine::mtp_programs() const noexcept {
  return state_->programs.mtp;
}
std::span<const Program> Engine::draft_programs() const noexcept {
  return state_->programs.drafts;
}
MtpWiring Engine::mtp_wiring() const noexcept {
  return state_->mtp_wiring;
}
int Engine::mtp_layers_in_files() const noexcept {
  return state_->mtp_layers_in_files;
}
const Parallel& Engine::parallel() const noexcept {
  return state_->parallel;
}
const Checkpoint& Engine::checkpoint() const noexcept {
  return state_->checkpoint;
}
const GenerationConfig& Engine::generation() const noexcept {
  return state_->generation;
}
Numerics Engine::numerics() const noexcept {
  return state_->numerics;
}
WeightFormat Engine::weight_format() const noexcept {
  return state_->weights.options().format;
}
std::int64_t Engine::context() const noexcept {
  return state_->context;
}
std::int64_t Engine::chunk() const noexcept {
  return state_->plan.chunk;
}
const std::vector<std::string>& Engine::warnings() const noexcept {
  return state_->config.warnings;
}
const std::vector<std::int32_t>& Engine::stop_ids() const noexcept {
  return state_->stop_ids;
}
std::vector<std::string> Engine::unused_tensors() const {
  return state_->weights.unused();
}

Dtype Engine::kv_dtype() const noexcept {
  return kv_dtype_of(state_->numerics);
}

bool Engine::has_tokenizer() const noexcept {
  return state_->tokenizer != nullptr;
}

const ToolFormat& Engine::tool_format() const noexcept {
  return *state_->family->tool_format;
}

const Tokenizer& Engine::tokenizer() const {
  require(state_->tokenizer != nullptr, Errc::not_found, "{}: no tokenizer.json; text needs one, --tokens does not",
          state_->checkpoint.path());
  return *state_->tokenizer;
}

WorkspaceLimits Engine::workspace_limits() const noexcept {
  return pass_limits(chunk(), context(), mtp_programs().size(), parallel().threads());
}

std::optional<ExpertCacheStats> Engine::expert_stats() const {
  if (state_->experts.cache() == nullptr) return std::nullopt;
  return state_->experts.cache()->stats();
}

void Engine::check_files() const {
  if (state_->experts.is_mapped()) state_->checkpoint.check_sizes();
}

const MemoryPlan& Engine::plan() const noexcept {
  return state_->plan;
}

}  // namespace millrace
