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

struct DetokenizeFlags {
  std::string model, file;
  std::vector<std::string> ids;
  bool no_special = false, json = false;
};

int detokenize(const DetokenizeFlags& flags, bool has_ids) {
  if (!has_ids && flags.file.empty()) usage_error("IDS", "no ids: give some, or --file");
  const Tokenizer tokenizer = Tokenizer::open(model_folder(flags.model));
  const std::vector<std::int32_t> ids = flags.file.empty()
                                            ? parse_ids(fmt::format("{}", fmt::join(flags.ids, " ")), "IDS")
                                            : parse_ids(read_input(flags.file), flags.file);
  const std::string text = tokenizer.decode(ids, flags.no_special);
  if (!flags.json) {
    write_output(output_is_terminal() ? text + "\n" : text);
    return EXIT_SUCCESS;
  }
  std::vector<std::string_view> pieces;
  for (const std::int32_t id : ids) pieces.push_back(tokenizer.token_text(id));
  write_output(json_text({{"text", text}, {"ids", ids}, {"pieces", pieces}}));
  return EXIT_SUCCESS;
}

}  // namespace

Run declare_detokenize(CLI::App& app) {
  const auto flags = std::make_shared<DetokenizeFlags>();
  CLI::Option* ids =
      app.add_option("IDS", flags->ids, "token ids, with blanks or commas between")->option_text(" ")->check(check_ids);
  app.add_option("--file", flags->file, "a file with the ids; - is standard input")->option_text("F")->excludes(ids);
  app.add_flag("--no-special", flags->no_special, "leave special tokens out of the text");
  app.add_flag("--json", flags->json, "print {\"text\": ..., \"ids\": [...], \"pieces\": [...]}");
  add_model_option(app, flags->model);
  app.footer("Example: millrace detokenize 1 2 3");
  return [flags, ids] { return detokenize(*flags, ids->count() > 0); };
}

}  // namespace millrace
