// The program: a table of subcommands, and the one place where errors become a line on standard error and an exit code.
// 0 success (also when the reader of standard output went away), 1 an error, 2 a wrong use, 130 interrupted.
#include <CLI/CLI.hpp>

#include <array>
#include <csignal>
#include <cstdlib>
#include <new>
#include <string>

#include "apps/cli/command.h"
#include "apps/common/output.h"
#include "runtime/error.h"

namespace millrace {
namespace {

struct Subcommand {
  const char* name;
  const char* summary;
  Run (*declare)(CLI::App&);
};

constexpr std::array subcommands = {
    Subcommand{"generate", "Continue a text.", declare_generate},
    Subcommand{"chat", "Talk with a model.", declare_chat},
    Subcommand{"eval", "Compute one forward pass and write logits and step outputs to a file.", declare_eval},
    Subcommand{"tokenize", "Turn text into token ids.", declare_tokenize},
    Subcommand{"detokenize", "Turn token ids into text.", declare_detokenize},
    Subcommand{"inspect", "Show what a model is made of, and check its files.", declare_inspect},
    Subcommand{"plan", "Show what memory a model takes and how fast it should be; loads nothing.", declare_plan},
    Subcommand{"synth", "Write a synthetic model of exact shapes, for tests and benchmarks.", declare_synth},
    Subcommand{"bench", "Measure a model against what the machine can do.", declare_bench},
};

constexpr int wrong_use = 2;

// CLI11 leaves two blank lines between groups, calls a subcommand by its own name only, and gives a section to what
// the usage line has said.
std::string help_text(const CLI::App& app) {
  std::string text = app.get_parent() == nullptr ? app.help() : app.help("millrace");
  if (const std::size_t at = text.find("Positionals:\n"); at != std::string::npos)
    text.erase(at, text.find("\n\n", at) + 2 - at);
  for (std::size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
  return text;
}

int fail_use(const CLI::App& program, const CLI::ParseError& error) {
  print_error(error.what());
  std::string command = "millrace";
  for (const CLI::App* app : program.get_subcommands()) command += " " + app->get_name();
  print_note("Try '" + command + " --help'.\n");
  return wrong_use;
}

int run(int argc, char** argv) {
  CLI::App program("Runs very large mixture-of-experts language models on a CPU.", "millrace");
  program.set_help_flag("-h,--help", "show this help");
  program.set_version_flag("--version", "millrace " MILLRACE_VERSION, "show the version");
  program.require_subcommand(0, 1);
  program.get_formatter()->column_width(28);
  program.footer("Try: millrace generate \"Once upon a time\"\n     millrace generate --help");
  Run chosen;
  for (const Subcommand& subcommand : subcommands) {
    CLI::App* app = program.add_subcommand(subcommand.name, subcommand.summary);
    app->callback([&chosen, run = subcommand.declare(*app)] { chosen = run; });
  }
  try {
    program.parse(argc, argv);
    if (chosen) return chosen();
    write_output(help_text(program));
    return EXIT_SUCCESS;
  } catch (const CLI::CallForHelp&) {
    const auto parsed = program.get_subcommands();
    write_output(help_text(parsed.empty() ? program : *parsed[0]));
    return EXIT_SUCCESS;
  } catch (const CLI::CallForVersion& version) {
    write_output(std::string(version.what()) + "\n");
    return EXIT_SUCCESS;
  } catch (const CLI::ParseError& error) {
    return fail_use(program, error);
  }
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  // A closed pipe and a file that may not grow are failures of a write, not ends of the process.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return millrace::run(argc, argv);
  } catch (const millrace::ClosedPipe&) {
    return EXIT_SUCCESS;
  } catch (const std::bad_alloc&) {
    millrace::print_error("out of memory");
  } catch (const std::exception& error) {
    millrace::print_error(error.what());
  }
  return EXIT_FAILURE;
}
