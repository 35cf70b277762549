#include "model/generation_config.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "loader/json.h"
#include "loader/text_file.h"
#include "model/config_reader.h"

namespace millrace {
namespace {

constexpr std::int64_t largest_file = 1 << 20;
constexpr std::int64_t largest_int = std::numeric_limits<std::int32_t>::max();

// Zero is allowed where it switches something off.
constexpr double below_zero = -1e-30;

}  // namespace

GenerationConfig parse_generation_config(std::string_view text, std::string_view file_name) {
  const nlohmann::json json = parse_json(text, file_name);
  const ConfigReader config(json, std::string(file_name));
  GenerationConfig generation;
  const auto number = [&](std::string_view key, NumberRange range, float otherwise) {
    return static_cast<float>(config.find_number({key}, range).value_or(otherwise));
  };
  // Without a temperature, do_sample false means always taking the likeliest token.
  const bool greedy = !config.find_bool("do_sample").value_or(true);
  generation.temperature = number("temperature", {below_zero, 100}, greedy ? 0 : generation.temperature);
  generation.top_p = number("top_p", {0, 1}, generation.top_p);
  generation.min_p = number("min_p", {below_zero, 1}, generation.min_p);
  generation.repetition_penalty = number("repetition_penalty", {0, 100}, generation.repetition_penalty);
  // Some files say -1 for "off".
  generation.top_k = static_cast<int>(
      std::max<std::int64_t>(0, config.find_integer({"top_k"}, {-1, largest_int}).value_or(generation.top_k)));
  const auto eos = config.find_one_or_more("eos_token_id", {0, largest_int}).value_or(std::vector<std::int64_t>{});
  for (const std::int64_t id : eos) generation.eos_ids.push_back(static_cast<std::int32_t>(id));
  return generation;
}

GenerationConfig read_generation_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "generation_config.json";
  std::error_code failure;
  if (std::filesystem::status(path, failure).type() == std::filesystem::file_type::not_found) return {};
  return parse_generation_config(read_text_file(path, largest_file), path.string());
}

}  // namespace millrace
