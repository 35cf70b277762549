// --mtp, the same wherever text is generated: how many tokens to guess per pass.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "model/engine.h"

namespace millrace {

struct MtpFlag {
  std::string text = "auto";

  void add_to(CLI::App& app);

  int guesses() const;  // GenerateOptions::guesses
  int layers() const;   // EngineOptions::mtp_layers: those nobody wants are not loaded

  // Throws Error(bad_argument) for more guesses than the files hold layers.
  void check(const Engine& engine) const;
};

}  // namespace millrace
