#include "apps/common/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "apps/common/demo_model.h"
#include "apps/common/machine_probe.h"
#include "apps/common/memory_size.h"
#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "loader/checkpoint.h"
#include "ops/isa.h"
#include "runtime/error.h"
#include "runtime/parallel.h"

namespace millrace {
namespace {

CLI::Validator at_least_one() {
  return CLI::Range(std::int64_t{1}, std::numeric_limits<std::int64_t>::max());
}

const std::vector<std::pair<std::string, Numerics>> numerics_names = {
    {"fast", Numerics::fast},
    {"hf", Numerics::hf},
    {"f32", Numerics::f32},
    {"w8a8", Numerics::w8a8},
    {"w8a8-ue8m0", Numerics::w8a8_ue8m0},
    {"w8a8-bf16", Numerics::w8a8_bf16},
    {"w8a8-bf16-ue8m0", Numerics::w8a8_bf16_ue8m0},
};

Numerics numerics_named(const std::string& name) {
  const auto found = std::find_if(numerics_names.begin(), numerics_names.end(),
                                  [&](const auto& known) { return known.first == name; });
  return found == numerics_names.end() ? Numerics::fast : found->second;
}

// Empty, or what is wrong.
std::string check_numerics(const std::string& name) {
  std::string known;
  for (const auto& [each, numerics] : numerics_names) {
    if (each == name) return {};
    known += (known.empty() ? "" : ", ") + each;
  }
  return "'" + name + "', expected one of " + known;
}

const std::vector<std::pair<std::string, DiskIo>> expert_io_names = {
    {"auto", DiskIo::automatic}, {"uring", DiskIo::uring}, {"threads", DiskIo::threads}, {"mmap", DiskIo::mapped}};

std::optional<WeightFormat> weights_named(const std::string& name) {
  if (name == "auto") return std::nullopt;
  return name == "fp8" ? WeightFormat::fp8 : WeightFormat::bf16;
}

}  // namespace

void add_model_option(CLI::App& app, std::string& model) {
  app.add_option("-m,--model", model, "folder of the model; default: the demo model")->option_text("DIR");
}

void add_engine_options(CLI::App& app, EngineFlags& flags) {
  const std::string group = "Engine";
  add_model_option(app, flags.model);
  app.get_option("--model")->group(group);
  app.add_option("--memory", flags.memory, "ceiling of the process, e.g. 16G; default: what is free less a margin")
      ->option_text("SIZE")
      ->check(check_memory_size)
      ->group(group);
  app.add_option("--threads", flags.threads, "threads that compute; default: every processor")
      ->option_text("N")
      ->check(CLI::Range(1, Parallel::max_threads))
      ->group(group);
  app.add_option("--isa", flags.isa, "scalar, avx2, avx512, avx512bf16 or amx; default: the best but amx")
      ->option_text("TIER")
      ->check(CLI::IsMember(std::vector<std::string>{"scalar", "avx2", "avx512", "avx512bf16", "amx"}))
      ->group(group);
  app.add_option("--numerics", flags.numerics,
                 "fast, hf (as Transformers), f32, or w8a8[-bf16][-ue8m0] (as FP8 on GPUs)")
      ->option_text("HOW")
      ->check(check_numerics)
      ->group(group);
  app.add_option("--weights", flags.weights, "auto, bf16 or fp8: how FP8 weights are held; same results")
      ->option_text("FORMAT")
      ->check(CLI::IsMember(std::vector<std::string>{"auto", "bf16", "fp8"}))
      ->group(group);
  app.add_option("--ctx", flags.context, "most tokens of the context; default: the model's limit")
      ->option_text("N")
      ->check(at_least_one())
      ->group(group);
  app.add_option("--expert-io", flags.expert_io, "auto, uring, threads or mmap: how experts are read from the disk")
      ->option_text("HOW")
      ->check(CLI::IsMember(std::vector<std::string>{"auto", "uring", "threads", "mmap"}))
      ->group(group);
  // For measurements; no page of help has it.
  app.add_flag("--expert-overlap,!--no-expert-overlap", flags.expert_overlap,
               "read experts while others are multiplied, and ahead of layers")
      ->group("");
  app.add_option("--expert-dir", flags.expert_dirs, "folder with a copy of the model's files on another disk")
      ->option_text("DIR")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--window", flags.window, "keys a token sees on sliding layers, itself included")
      ->option_text("N")
      ->check(at_least_one())
      ->group(group);
}

std::filesystem::path model_folder(const std::string& model) {
  return model.empty() ? demo_model_folder() : std::filesystem::path(model);
}

EngineOptions engine_options(const EngineFlags& flags) {
  EngineOptions options;
  options.threads = flags.threads;
  options.numerics = numerics_named(flags.numerics);
  options.weights = weights_named(flags.weights);
  if (!flags.memory.empty()) options.memory = parse_memory_size(flags.memory);
  options.context = flags.context;
  options.chunk = flags.chunk;
  options.window = flags.window;
  for (const auto& [name, io] : expert_io_names)
    if (name == flags.expert_io) options.expert_io = io;
  options.expert_overlap = flags.expert_overlap;
  options.expert_dirs.assign(flags.expert_dirs.begin(), flags.expert_dirs.end());
  options.mtp_layers = flags.mtp_layers;
  options.aside = flags.aside;
  if (flags.router_dtype != "f32")
    options.router_dtype = flags.router_dtype == "bf16" ? RouterDtype::bf16 : RouterDtype::match;
  return options;
}

void apply_isa(const EngineFlags& flags) {
  if (!flags.isa.empty()) limit_isa(*isa_named(flags.isa));
}

std::unique_ptr<Engine> open_engine(const EngineFlags& flags) {
  apply_isa(flags);
  const std::filesystem::path folder = model_folder(flags.model);
  EngineOptions options = engine_options(flags);
  std::unique_ptr<Engine> engine;
  {
    ProgressBar bar("Loading");
    options.progress = [&bar](std::uint64_t done, std::uint64_t total) { bar.update(done, total); };
    if (const auto rates = known_rates(folder, options.threads > 0 ? options.threads : available_processors()))
      options.rates = *rates;
    engine = Engine::open(folder, options);
  }
  for (const std::string& warning : engine->warnings())
    print_note(fmt::format("millrace: warning: {}\n", printable(warning)));
  return engine;
}

std::unique_ptr<Engine> open_headers(const EngineFlags& flags) {
  apply_isa(flags);
  EngineOptions options = engine_options(flags);
  options.headers_only = true;
  return Engine::open(model_folder(flags.model), options);
}

std::string model_name(const Engine& engine) {
  const auto path = std::filesystem::absolute(engine.checkpoint().path()).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

void usage_error(const std::string& option, const std::string& message) {
  throw CLI::ValidationError(option, message);
}

}  // namespace millrace
