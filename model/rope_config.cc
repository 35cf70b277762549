#include "model/rope_config.h"

#include <cmath>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr NumberRange factor_range{1e-6, 1e6};
constexpr std::int64_t most_positions = (std::int64_t{1} << 31) - 1;

// Transformers 5.23, modeling_rope_utils.py; DeepSeek's mscale variants scale differently.
void read_yarn(const ConfigReader& scaling, RopeSpec& rope) {
  for (const std::string_view key : {"mscale", "mscale_all_dim"})
    require(!scaling.has(key), Errc::unsupported, "{}: {} of yarn is not supported", scaling.where(), key);
  require(scaling.find_bool("truncate").value_or(true), Errc::unsupported,
          "{}: yarn with truncate false is not supported", scaling.where());
  require(rope.theta > 1, Errc::bad_config, "{}: rope_theta is {}, yarn expects more than 1", scaling.where(),
          rope.theta);
  rope.original_positions = scaling.integer({"original_max_position_embeddings"}, {1, most_positions});
  rope.beta_fast = scaling.find_number({"beta_fast"}, factor_range).value_or(32);
  rope.beta_slow = scaling.find_number({"beta_slow"}, factor_range).value_or(1);
  const double plain = rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
  rope.attention_factor = scaling.find_number({"attention_factor"}, factor_range).value_or(plain);
}

void read_one(const ConfigReader& scaling, RopeSpec& rope) {
  const std::string type = scaling.find_text({"rope_type", "type"}).value_or("default");
  if (type == "default") return;
  require(type == "linear" || type == "yarn", Errc::bad_config,
          "{} has the rope type \"{}\", expected default, linear or yarn", scaling.where(), shown(type));
  rope.type = type == "linear" ? RopeType::linear : RopeType::yarn;
  rope.factor = scaling.number({"factor"}, factor_range);
  if (rope.type == RopeType::yarn) read_yarn(scaling, rope);
}

bool same_scaling(const RopeSpec& a, const RopeSpec& b) {
  return a.type == b.type && a.factor == b.factor && a.original_positions == b.original_positions &&
         a.beta_fast == b.beta_fast && a.beta_slow == b.beta_slow && a.attention_factor == b.attention_factor;
}

}  // namespace

std::int64_t rotary_dim(std::int64_t head_dim, double factor, const std::string& where) {
  const auto size = static_cast<std::int64_t>(static_cast<double>(head_dim) * factor);
  require(size > 0 && size % 2 == 0, Errc::bad_config,
          "{}: partial_rotary_factor {} rotates {} of {} dimensions, expected an even number above 0", where, factor,
          size, head_dim);
  return size;
}

std::optional<double> find_rope_number(const ConfigReader& config, std::string_view key,
                                       const std::optional<ConfigReader>& parameters, std::string_view inner,
                                       NumberRange range) {
  const auto outside = config.find_number({key}, range);
  const auto inside = parameters ? parameters->find_number({inner}, range) : std::nullopt;
  require(!outside || !inside || *outside == *inside, Errc::bad_config, "{}: {} is {}, but {} of rope_parameters is {}",
          config.where(), key, outside.value_or(0), inner, inside.value_or(0));
  return inside ? inside : outside;
}

void read_rope_scaling(const std::optional<ConfigReader>& scaling, const std::optional<ConfigReader>& parameters,
                       RopeSpec& rope) {
  const RopeSpec plain = rope;
  if (parameters) read_one(*parameters, rope);
  if (!scaling) return;
  RopeSpec scaled = plain;
  read_one(*scaling, scaled);
  require(!parameters || same_scaling(rope, scaled), Errc::bad_config, "{} and {} disagree", scaling->where(),
          parameters->where());
  rope = scaled;
}

}  // namespace millrace
