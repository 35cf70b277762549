#include "apps/common/dump.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

#include "apps/common/glob.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::string_view logits_name = "logits";

constexpr std::array<std::string_view, 12> layer_names = {"",
                                                          ".input_layernorm",
                                                          ".self_attn.q",
                                                          ".self_attn.k",
                                                          ".self_attn.v",
                                                          ".self_attn.attn",
                                                          ".self_attn.o_proj",
                                                          ".post_attention_layernorm",
                                                          ".mlp.router_logits",
                                                          ".mlp.topk_ids",
                                                          ".mlp.topk_weights",
                                                          ".mlp"};

constexpr std::array<std::string_view, 3> mtp_names = {"", ".eh_proj", ".logits"};

// Whether `name` is `prefix`, a number and one of `endings`.
bool is_layer_name(std::string_view name, std::string_view prefix, std::span<const std::string_view> endings) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  return digits > 0 && std::find(endings.begin(), endings.end(), name.substr(digits)) != endings.end();
}

bool chooses(const std::string& pattern, const std::string& name) {
  if (pattern == "all") return is_dump_name(name);
  return is_glob(pattern) ? is_dump_name(name) && glob_match(pattern, name) : pattern == name;
}

[[noreturn]] void fail_unknown(const std::vector<const Program*>& programs, const std::string& pattern) {
  std::vector<std::string> names;
  for (const Program* program : programs)
    for (const Value& value : program->values())
      if (is_dump_name(value.name)) names.push_back(value.name);
  fail(Errc::bad_argument, "no step output is named '{}'; near names: {}", pattern,
       fmt::join(nearest_names(pattern, names, 4), ", "));
}

}  // namespace

bool is_dump_name(std::string_view name) {
  if (name == "embed_tokens" || name == "norm" || name == logits_name) return true;
  return is_layer_name(name, "layers.", layer_names) || is_layer_name(name, "mtp.layers.", mtp_names);
}

bool asks_for_mtp(const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [](const std::string& pattern) {
    return pattern == "all" || pattern.starts_with("mtp") || pattern.starts_with('*') || pattern.starts_with('?');
  });
}

std::vector<std::vector<ValueId>> select_values(const std::vector<const Program*>& programs,
                                                const std::vector<std::string>& patterns) {
  std::vector<bool> used(patterns.size());
  std::vector<std::vector<ValueId>> chosen;
  for (const Program* program : programs) {
    std::vector<ValueId>& ids = chosen.emplace_back();
    for (std::size_t id = 0; id < program->values().size(); ++id) {
      const std::string& name = program->values()[id].name;
      bool wanted = false;
      for (std::size_t i = 0; i < patterns.size(); ++i)
        if (chooses(patterns[i], name)) wanted = used[i] = true;
      if (wanted && name != logits_name) ids.push_back(static_cast<ValueId>(id));
    }
  }
  for (std::size_t i = 0; i < patterns.size(); ++i)
    if (!used[i]) fail_unknown(programs, patterns[i]);
  return chosen;
}

}  // namespace millrace
