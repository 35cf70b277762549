#include "model/offered_tools.h"

#include <array>
#include <charconv>
#include <cmath>
#include <locale>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "loader/json.h"
#include "loader/unicode.h"
#include "runtime/error.h"

namespace millrace {
namespace {

using nlohmann::json;

enum Type : std::uint8_t {
  unknown_type = 1,
  integer_type = 2,
  number_type = 4,
  boolean_type = 8,
  object_type = 16,
  array_type = 32,
  string_type = 64,
};

Type type_named(const std::string& name) {
  if (name == "integer") return integer_type;
  if (name == "number") return number_type;
  if (name == "boolean") return boolean_type;
  if (name == "object") return object_type;
  if (name == "array") return array_type;
  return name == "string" ? string_type : unknown_type;
}

Type type_of(const json& value) {
  if (value.is_number_integer()) return integer_type;
  if (value.is_number_float()) return number_type;
  if (value.is_boolean()) return boolean_type;
  if (value.is_string()) return string_type;
  if (value.is_array()) return array_type;
  return value.is_object() ? object_type : unknown_type;
}

// The types a schema allows, all its alternatives together; a schema that names none allows text. No deeper than JSON
// may be nested.
int schema_types(const json& schema) {
  if (!schema.is_object()) return string_type;
  int types = 0;
  const auto list = [&schema](const char* key) {
    const auto found = schema.find(key);
    return found != schema.end() && found->is_array() ? *found : json::array();
  };
  if (const auto type = schema.find("type"); type != schema.end() && type->is_string())
    types |= type_named(type->get_ref<const std::string&>());
  for (const json& type : list("type"))
    if (type.is_string()) types |= type_named(type.get_ref<const std::string&>());
  for (const json& value : list("enum")) types |= type_of(value);
  for (const char* several : {"anyOf", "oneOf", "allOf"})
    for (const json& choice : list(several)) types |= schema_types(choice);
  return types != 0 ? types : string_type;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

bool skip_digits(std::string_view& text) {
  const std::size_t count = std::min(text.find_first_not_of("0123456789"), text.size());
  text.remove_prefix(count);
  return count > 0;
}

void skip_one(std::string_view& text, std::string_view choices) {
  if (!text.empty() && choices.find(text.front()) != std::string_view::npos) text.remove_prefix(1);
}

bool is_integer(std::string_view text) {
  skip_one(text, "+-");
  return skip_digits(text) && text.empty();
}

bool is_number(std::string_view text) {
  skip_one(text, "+-");
  bool digits = skip_digits(text);
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    digits |= skip_digits(text);
  }
  if (!digits || text.empty()) return digits;
  if (text.front() != 'e' && text.front() != 'E') return false;
  text.remove_prefix(1);
  skip_one(text, "+-");
  return skip_digits(text) && text.empty();
}

std::optional<std::int64_t> integer_of(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<std::string> number_json(std::string_view text) {
  // from_chars would not tell numbers that are too large from those that are nearly 0.
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  double value = 0;
  if (!(stream >> value)) return std::nullopt;
  constexpr double exact_integers = 9007199254740992;  // 2^53
  if (value == std::trunc(value) && std::abs(value) < exact_integers)
    return std::to_string(static_cast<std::int64_t>(value));
  return json(value).dump();
}

std::optional<bool> boolean_of(std::string_view text, bool loose) {
  const std::string word = lower(text.substr(0, 6));
  if (word == "true" || (loose && (word == "1" || word == "yes" || word == "on"))) return true;
  if (word == "false" || (loose && (word == "0" || word == "no" || word == "off"))) return false;
  return std::nullopt;
}

// Whether `text` may stand inside other JSON as it is.
bool is_json(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) return false;  // a byte order mark is accepted before whole files only
  try {
    parse_json(text, "value");
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string text_json(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

// One value as JSON. Objects, arrays and what else is JSON already keeps its spelling.
std::string value_json(const std::string& text, int types, const ToolFormat& format) {
  const std::string_view bare = stripped(text, tool_blank);
  if (text.size() == 4 && lower(text) == "null") return "null";
  if ((types & integer_type) != 0 && is_integer(bare)) {
    const auto value = integer_of(bare);
    return value ? std::to_string(*value) : text_json(text);
  }
  if ((types & number_type) != 0 && is_number(bare))
    if (const auto number = number_json(bare)) return *number;
  if ((types & boolean_type) != 0)
    if (const auto boolean = boolean_of(bare, format.loose_booleans)) return *boolean ? "true" : "false";
  const bool wanted =
      ((types & object_type) != 0 && bare.starts_with('{')) || ((types & array_type) != 0 && bare.starts_with('['));
  if (wanted && is_json(bare)) return std::string(bare);
  if ((types & string_type) == 0 && is_json(bare)) return std::string(bare);
  return text_json(text);
}

const json& member(const json& object, const char* key) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found != object.end() ? *found : nothing;
}

// The character an entity without its & stands for, "amp;" or "#x41;", and how many bytes it takes; or nothing.
std::optional<std::pair<char32_t, std::size_t>> entity(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, char32_t>, 5> named = {
      {{"amp;", U'&'}, {"lt;", U'<'}, {"gt;", U'>'}, {"quot;", U'"'}, {"apos;", U'\''}}};
  for (const auto& [name, character] : named)
    if (text.starts_with(name)) return {{character, name.size()}};
  if (!text.starts_with('#')) return std::nullopt;
  const bool hex = text.substr(1, 1) == "x" || text.substr(1, 1) == "X";
  const std::size_t begin = hex ? 2 : 1, most_digits = hex ? 6 : 7,
                    end = text.substr(0, begin + most_digits + 1).find(';');
  if (end == std::string_view::npos || end == begin) return std::nullopt;
  std::uint32_t code = 0;
  const auto [stop, failure] = std::from_chars(text.data() + begin, text.data() + end, code, hex ? 16 : 10);
  if (failure != std::errc() || stop != text.data() + end) return std::nullopt;
  if (code == 0 || (code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF) return std::nullopt;
  return {{static_cast<char32_t>(code), end + 1}};
}

}  // namespace

std::string unescape_entities(std::string_view text) {
  std::string result;
  while (true) {
    const std::size_t start = text.find('&');
    result += text.substr(0, start);
    if (start == std::string_view::npos) return result;
    text.remove_prefix(start + 1);
    if (const auto found = entity(text)) {
      append_utf8(result, found->first);
      text.remove_prefix(found->second);
    } else {
      result += '&';
    }
  }
}

OfferedTools::OfferedTools(std::string_view text) {
  if (text.empty()) return;
  json tools;
  try {
    tools = parse_json(text, "tools");
  } catch (const Error& error) {
    fail(Errc::bad_argument, "{}", error.what());
  }
  require(tools.is_array() || tools.is_null(), Errc::bad_argument, "tools: {}, expected a list", tools.type_name());
  for (const json& entry : tools) {
    const json& function = member(entry, "function").is_null() ? entry : member(entry, "function");
    const json& name = member(function, "name");
    require(name.is_string() && !name.get_ref<const std::string&>().empty(), Errc::bad_argument,
            "tools: entry {} has no function name", &entry - &tools.front());
    Parameters& parameters = functions_[name.get<std::string>()];
    parameters.clear();
    if (const json& properties = member(member(function, "parameters"), "properties"); properties.is_object())
      for (const auto& [key, schema] : properties.items()) parameters[key] = static_cast<Types>(schema_types(schema));
  }
}

std::string OfferedTools::arguments(std::string_view function, const std::vector<ToolElement>& elements,
                                    const ToolFormat& format) const {
  const Parameters& parameters = functions_.find(function)->second;
  std::vector<const ToolElement*> last;  // in the order in which the names first appear
  std::unordered_map<std::string_view, std::size_t> places;
  for (const ToolElement& element : elements) {
    const auto [place, is_new] = places.try_emplace(element.name, last.size());
    if (is_new) last.push_back(&element);
    last[place->second] = &element;
  }
  std::string json = "{";
  for (const ToolElement* element : last) {
    const auto known = parameters.find(element->name);
    const int types = known != parameters.end() ? int{known->second} : int{string_type};
    const std::string text = format.escapes_values
                                 ? unescape_entities(element->body)
                                 : std::string(format.drops_newlines ? stripped(element->body, "\n") : element->body);
    if (json.size() > 1) json += ", ";
    json += text_json(element->name) + ": " + value_json(text, types, format);
  }
  return json + "}";
}

}  // namespace millrace
