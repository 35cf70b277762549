#include "apps/common/mtp_flag.h"

#include <fmt/format.h>

#include "apps/common/options.h"
#include "model/guess_policy.h"
#include "model/speculation.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// "auto", "off" or a number.
std::string check_text(const std::string& text) {
  const bool digit = text.size() == 1 && text[0] >= '1' && text[0] <= '0' + GuessPolicy::most_guesses;
  if (text == "auto" || text == "off" || digit) return {};
  return fmt::format("'{}', expected auto, off or a number from 1 to {}", text, GuessPolicy::most_guesses);
}

}  // namespace

void MtpFlag::add_to(CLI::App& app) {
  app.add_option("--mtp", text, "tokens guessed per pass: auto (default), off, 1, 2 or 3; same results")
      ->option_text("HOW")
      ->check(check_text);
}

int MtpFlag::guesses() const {
  if (text == "auto") return Speculation::automatic;
  return text == "off" ? 0 : text[0] - '0';
}

int MtpFlag::layers() const {
  return text == "auto" ? GuessPolicy::most_guesses : guesses();
}

void MtpFlag::check(const Engine& engine) const {
  require(guesses() <= engine.mtp_layers_in_files(), Errc::bad_argument, "--mtp {}: {} holds {} prediction layers",
          text, model_name(engine), engine.mtp_layers_in_files());
}

}  // namespace millrace
