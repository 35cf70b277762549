#include "model/family.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loader/json.h"
#include "model/config_reader.h"
#include "model/mimo_v2_flash.h"
#include "model/mimo_v2_flash_config.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view mimo_architectures[] = {"MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM"};
constexpr std::string_view mimo_model_types[] = {"mimo_v2_flash", "mimo_v2"};
constexpr std::string_view mimo_stop_tokens[] = {"<|im_end|>", "<|endoftext|>"};

// Listed by hand: registration from static initialisers would vanish from a static library.
constexpr Family known[] = {
    {"mimo_v2_flash", mimo_architectures, mimo_model_types, mimo_stop_tokens, &mimo_tool_format,
     parse_mimo_v2_flash_config, build_mimo_v2_flash, build_mimo_v2_flash_mtp},
};

// An absent name (empty) fits every family; the other one decides.
bool fits(std::span<const std::string_view> accepted, std::string_view name) {
  return name.empty() || std::find(accepted.begin(), accepted.end(), name) != accepted.end();
}

}  // namespace

std::span<const Family> families() {
  return known;
}

const Family& family_of(std::string_view config_text, std::string_view file_name) {
  const nlohmann::json json = parse_json(config_text, file_name);
  const ConfigReader config(json, std::string(file_name));
  const auto listed = config.find_texts("architectures").value_or(std::vector<std::string>{});
  const std::string architecture = listed.empty() ? std::string() : listed.front();
  const std::string model_type = config.find_text({"model_type"}).value_or("");
  require(!architecture.empty() || !model_type.empty(), Errc::bad_config,
          "{}: neither architectures nor model_type is present", file_name);
  std::vector<std::string_view> names;
  for (const Family& family : known) {
    if (fits(family.architectures, architecture) && fits(family.model_types, model_type)) return family;
    names.insert(names.end(), family.architectures.begin(), family.architectures.end());
  }
  fail(Errc::bad_config, "{}: architecture \"{}\" with model_type \"{}\" is not known; known architectures: {}",
       file_name, shown(architecture), shown(model_type), fmt::join(names, ", "));
}

}  // namespace millrace
