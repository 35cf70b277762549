// Help on two pages, for subcommands with more options than a screen has lines.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace millrace {

// Replaces --help by two pages: --help-more shows the options of the group `more` alone and `more_example`, --help all
// others. Throws CLI::CallForHelp where one is asked for.
void add_help_pages(CLI::App& app, const std::string& more, const std::string& more_summary,
                    const std::string& more_example);

}  // namespace millrace
