// Flags that subcommands share, declared in one place so that they read and mean the same everywhere.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/engine.h"

namespace millrace {

struct EngineFlags {
  std::string model;  // empty = the demo model
  std::string isa;    // empty = the best this machine has but amx
  std::string numerics = "fast";
  std::string weights = "auto";
  std::string router_dtype = "f32";
  std::string memory;  // empty = what is free but for a margin
  int threads = 0;
  std::int64_t context = 0;
  std::int64_t chunk = 0;
  std::int64_t window = 0;
  std::string expert_io = "auto";
  bool expert_overlap = true;
  std::vector<std::string> expert_dirs;
  // Set by the subcommand:
  int mtp_layers = 0;
  std::uint64_t aside = 0;
};

// -m, --model
void add_model_option(CLI::App& app, std::string& model);
// -m, --memory, --threads, --isa, --numerics, --weights, --ctx and --window
void add_engine_options(CLI::App& app, EngineFlags& flags);

// The folder `model` names: as given, or the demo model's. Throws Error(not_found).
std::filesystem::path model_folder(const std::string& model);

EngineOptions engine_options(const EngineFlags& flags);

// --isa, for the whole process. Throws Error(unsupported).
void apply_isa(const EngineFlags& flags);

// Applies --isa and opens the engine, with a progress bar; what the engine warns of goes to standard error.
std::unique_ptr<Engine> open_engine(const EngineFlags& flags);

// The same without weights: what must be known before memory is planned.
std::unique_ptr<Engine> open_headers(const EngineFlags& flags);

// The folder's own name, which is what a model is called.
std::string model_name(const Engine& engine);

// Ends the program as a wrong use of `option`: one line, exit code 2.
[[noreturn]] void usage_error(const std::string& option, const std::string& message);

}  // namespace millrace
