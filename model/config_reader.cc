#include "model/config_reader.h"

#include <fmt/ranges.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

// Containers are only named: writing them out could take any length.
std::string shown_value(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string()) return fmt::format("\"{}\"", shown(value.get_ref<const std::string&>()));
  return value.dump();
}

}  // namespace

std::string shown(std::string_view text) {
  constexpr std::size_t longest = 80;
  std::string line(text.substr(0, longest));
  for (char& c : line)
    if (c < ' ' || c > '~') c = '?';
  if (text.size() > longest) line += "...";
  return line;
}

ConfigReader::ConfigReader(const json& value, std::string where) : object_(&value), where_(std::move(where)) {
  if (!value.is_object()) fail(Errc::bad_config, "{} is {}, expected an object", where_, shown_value(value));
}

const json* ConfigReader::find(std::string_view key) const {
  const auto place = object_->find(key);
  return place == object_->end() || place->is_null() ? nullptr : &*place;
}

bool ConfigReader::has(std::string_view key) const {
  return find(key) != nullptr;
}

void ConfigReader::fail_type(const json& value, std::string_view key, std::string_view expected) const {
  fail(Errc::bad_config, "{}: {} is {}, expected {}", where_, key, shown_value(value), expected);
}

void ConfigReader::fail_absent(Spellings keys) const {
  if (keys.size() == 1) fail(Errc::bad_config, "{}: {} is missing", where_, *keys.begin());
  fail(Errc::bad_config, "{}: none of {} is present", where_, fmt::join(keys, ", "));
}

std::int64_t ConfigReader::to_integer(const json& value, std::string_view key, IntegerRange range) const {
  const bool beyond = value.is_number_unsigned() &&
                      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const bool in_range = value.is_number_integer() && !beyond && value.get<std::int64_t>() >= range.low &&
                        value.get<std::int64_t>() <= range.high;
  if (!in_range) fail_type(value, key, fmt::format("an integer from {} to {}", range.low, range.high));
  return value.get<std::int64_t>();
}

double ConfigReader::to_number(const json& value, std::string_view key, NumberRange range) const {
  const double number = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  const bool in_range = std::isfinite(number) && number > range.above && number <= range.most;
  if (!in_range) fail_type(value, key, fmt::format("a number above {} and at most {}", range.above, range.most));
  return number;
}

std::string ConfigReader::to_text(const json& value, std::string_view key) const {
  if (!value.is_string()) fail_type(value, key, "a text");
  return value.get<std::string>();
}

template <class Read>
auto ConfigReader::pick(Spellings keys, Read read) const {
  std::optional<decltype(read(*object_, std::string_view{}))> found;
  std::string_view first;
  for (const std::string_view key : keys) {
    const json* value = find(key);
    if (value == nullptr) continue;
    auto read_value = read(*value, key);
    if (found && *found != read_value)
      fail(Errc::bad_config, "{}: {} is {}, but {} is {}; they mean the same", where_, first, shown_value(*find(first)),
           key, shown_value(*value));
    if (!found) first = key;
    found = std::move(read_value);
  }
  return found;
}

std::optional<std::int64_t> ConfigReader::find_integer(Spellings keys, IntegerRange range) const {
  return pick(keys, [&](const json& value, std::string_view key) { return to_integer(value, key, range); });
}

std::optional<double> ConfigReader::find_number(Spellings keys, NumberRange range) const {
  return pick(keys, [&](const json& value, std::string_view key) { return to_number(value, key, range); });
}

std::optional<std::string> ConfigReader::find_text(Spellings keys) const {
  return pick(keys, [&](const json& value, std::string_view key) { return to_text(value, key); });
}

std::optional<bool> ConfigReader::find_bool(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail_type(*value, key, "true or false");
  return value->get<bool>();
}

std::optional<ConfigReader> ConfigReader::find_object(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return ConfigReader(*value, fmt::format("{}: {}", where_, key));
}

std::optional<std::vector<std::int64_t>> ConfigReader::find_integers(std::string_view key, IntegerRange range) const {
  const json* list = find(key);
  if (list == nullptr) return std::nullopt;
  if (!list->is_array()) fail_type(*list, key, "a list of integers");
  std::vector<std::int64_t> values;
  for (const json& value : *list) values.push_back(to_integer(value, fmt::format("{}[{}]", key, values.size()), range));
  return values;
}

std::optional<std::vector<std::string>> ConfigReader::find_texts(std::string_view key) const {
  const json* list = find(key);
  if (list == nullptr) return std::nullopt;
  if (!list->is_array()) fail_type(*list, key, "a list of texts");
  std::vector<std::string> values;
  for (const json& value : *list) values.push_back(to_text(value, fmt::format("{}[{}]", key, values.size())));
  return values;
}

std::optional<std::vector<std::int64_t>> ConfigReader::find_one_or_more(std::string_view key,
                                                                        IntegerRange range) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array()) return find_integers(key, range);
  return std::vector<std::int64_t>{to_integer(*value, key, range)};
}

std::int64_t ConfigReader::integer(Spellings keys, IntegerRange range) const {
  const std::optional<std::int64_t> value = find_integer(keys, range);
  if (!value) fail_absent(keys);
  return *value;
}

double ConfigReader::number(Spellings keys, NumberRange range) const {
  const std::optional<double> value = find_number(keys, range);
  if (!value) fail_absent(keys);
  return *value;
}

std::vector<std::string> ConfigReader::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_->items()) names.push_back(name);
  return names;
}

}  // namespace millrace
