#include <memory>
#include <string>
#include <vector>

#include "apps/cli/chat_program.h"
#include "apps/cli/command.h"

namespace millrace {

Run declare_chat(CLI::App& app) {
  const auto flags = std::make_shared<ChatFlags>();
  app.add_option("--system", flags->system, "the system text; default: the chat template's")->option_text("TEXT");
  app.add_option("--thinking", flags->thinking, "on or off; default: the chat template's")
      ->option_text("on|off")
      ->check(CLI::IsMember(std::vector<std::string>{"on", "off"}));
  app.add_option("--load", flags->load, "go on with the conversation in this file")->option_text("F");
  app.add_option("--save", flags->save, "write it there after every answer; at the end the cache to F.kv")
      ->option_text("F");
  app.add_option("--session", flags->session, "--load and --save in one: F need not exist yet")
      ->option_text("F")
      ->excludes("--load")
      ->excludes("--save");
  app.add_option("-n,--max-tokens", flags->max_tokens, "most tokens of an answer; default: what the context holds")
      ->option_text("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  flags->mtp.add_to(app);
  flags->sampling.add_to(app);
  add_engine_options(app, flags->engine);
  app.footer(
      "At the prompt /help lists commands. From a pipe each line is a message.\n"
      "Example: millrace chat --system \"Answer briefly.\"");
  return [flags] {
    flags->engine.mtp_layers = flags->mtp.layers();
    const std::unique_ptr<Engine> engine = open_engine(flags->engine);
    flags->mtp.check(*engine);
    return ChatProgram(*engine, *flags).run();
  };
}

}  // namespace millrace
