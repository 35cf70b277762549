#include "model/family.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loader/json.h"
#include "model/common_config.h"
#include "model/config_reader.h"
#include "model/mimo_v2_flash.h"
#include "model/minimax_m2.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// Listed by hand: registration from static initialisers would vanish from a static library.
constexpr const Family* known[] = {&mimo_v2_flash, &minimax_m2};

// An absent name (empty) fits every family; the other one decides.
bool fits(std::span<const std::string_view> accepted, std::string_view name) {
  return name.empty() || std::find(accepted.begin(), accepted.end(), name) != accepted.end();
}

}  // namespace

std::span<const Family* const> families() {
  return known;
}

bool is_named(const Family& family, std::string_view architecture, std::string_view model_type) {
  const bool named = !architecture.empty() || !model_type.empty();
  return named && fits(family.architectures, architecture) && fits(family.model_types, model_type);
}

const Family& family_of(std::string_view config_text, std::string_view file_name, const Checkpoint* checkpoint) {
  const nlohmann::json json = parse_json(config_text, file_name);
  const ConfigReader config(json, std::string(file_name));
  ModelConfig given;
  read_names(config, given);
  std::vector<std::string_view> names;
  for (const Family* family : known) {
    if (is_named(*family, given.architecture, given.model_type)) return *family;
    names.insert(names.end(), family->architectures.begin(), family->architectures.end());
  }
  for (const Family* family : known)
    if (checkpoint && family->recognizes && family->recognizes(config, *checkpoint)) return *family;
  require(!given.architecture.empty() || !given.model_type.empty(), Errc::bad_config,
          "{}: neither architectures nor model_type is present", file_name);
  fail(Errc::bad_config, "{}: architecture \"{}\" with model_type \"{}\" is not known; known architectures: {}",
       file_name, shown(given.architecture), shown(given.model_type), fmt::join(names, ", "));
}

}  // namespace millrace
