#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/common/input.h"
#include "apps/common/json_text.h"
#include "apps/common/options.h"
#include "apps/common/output.h"
#include "loader/tokenizer.h"

namespace millrace {
namespace {

struct TokenizeFlags {
  std::string model, text, file;
  bool plain = false, no_added = false, json = false;
};

int tokenize(const TokenizeFlags& flags, bool has_text) {
  if (!has_text && flags.file.empty()) usage_error("TEXT", "no text: give one, or --file");
  const Tokenizer tokenizer = Tokenizer::open(model_folder(flags.model));
  const std::string text = flags.file.empty() ? flags.text : read_input(flags.file);
  const EncodeOptions options = {.add_special_tokens = !flags.no_added, .parse_special = !flags.plain};
  const std::vector<std::int32_t> ids = tokenizer.encode(text, options);
  if (!flags.json) {
    write_output(fmt::format("{}\n", fmt::join(ids, " ")));
    return EXIT_SUCCESS;
  }
  std::vector<std::string_view> pieces;
  for (const std::int32_t id : ids) pieces.push_back(tokenizer.token_text(id));
  write_output(json_text({{"ids", ids}, {"pieces", pieces}}));
  return EXIT_SUCCESS;
}

}  // namespace

Run declare_tokenize(CLI::App& app) {
  const auto flags = std::make_shared<TokenizeFlags>();
  CLI::Option* text = app.add_option("TEXT", flags->text, "the text")->option_text(" ");
  app.add_option("--file", flags->file, "a file with the text; - is standard input")->option_text("F")->excludes(text);
  app.add_flag("--no-special", flags->plain, "do not recognize special tokens in the text");
  app.add_flag("--no-added", flags->no_added, "leave out tokens that the model puts around a text");
  app.add_flag("--json", flags->json, "print {\"ids\": [...], \"pieces\": [...]}");
  add_model_option(app, flags->model);
  app.footer("Example: millrace tokenize \"Once upon a time\"");
  return [flags, text] { return tokenize(*flags, text->count() > 0); };
}

}  // namespace millrace
