// A subcommand: declares its options on its own CLI::App and returns what to run once they are parsed.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>

namespace millrace {

// Returns the exit code. Throws Error, CLI::ParseError for a wrong use, ClosedPipe.
using Run = std::function<int()>;

Run declare_generate(CLI::App& app);
Run declare_chat(CLI::App& app);
Run declare_eval(CLI::App& app);
Run declare_tokenize(CLI::App& app);
Run declare_detokenize(CLI::App& app);
Run declare_inspect(CLI::App& app);
Run declare_plan(CLI::App& app);
Run declare_synth(CLI::App& app);
Run declare_bench(CLI::App& app);

}  // namespace millrace
