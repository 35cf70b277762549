// What users give to subcommands: text and lists of ids, from arguments, files and standard input.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "loader/chat_template.h"

namespace millrace {

class Engine;
struct LogitBias;

// The contents of a file, or of standard input for "-". Throws Error: not_found, io, bad_file for a directory or more
// than 256 MiB.
std::string read_input(const std::string& path);

// "1,2,3", "[1, 2, 3]" or "1 2 3", numbers from `least` on. `what` opens the message. Throws Error(bad_argument) for
// anything else.
std::vector<std::int32_t> parse_ids(std::string_view text, std::string_view what, std::int32_t least = 0);
// The same as a check of an option's value.
std::string check_ids(const std::string& text);

// "ID=V", where V is a number or -inf. Throws Error(bad_argument) for anything else.
LogitBias parse_logit_bias(std::string_view text);

// Where a prompt comes from: exactly one of TEXT, --prompt, --file, --messages, --tokens and --tokens-file.
class PromptFlags {
 public:
  void add_to(CLI::App& app);

  // Whether any of them was given.
  bool given() const;

  // The prompt as ids; one that `begins` a text gets the special tokens that belong there. Throws CLI::ValidationError
  // if none was given, Error if it cannot be read, needs a tokenizer that the folder lacks, or is empty.
  std::vector<std::int32_t> read(const Engine& engine, bool begins = true) const;

  // Whether --messages was given, and the conversation it names as the template of the model in `folder` renders it.
  bool has_messages() const;
  RenderedChat render_messages(const std::filesystem::path& folder) const;

 private:
  std::string text_, file_, tokens_, tokens_file_, messages_file_;
  bool no_generation_prompt_ = false;
  std::vector<CLI::Option*> sources_;
};

}  // namespace millrace
