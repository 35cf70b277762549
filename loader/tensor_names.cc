#include "loader/tensor_names.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace millrace {
namespace {

// Whole components of a name; # is any number, the same one on both sides.
struct Spelling {
  std::string_view file, canonical;
};

// In this order towards the canonical form, backwards from it.
constexpr Spelling spellings[] = {
    {"block_sparse_moe", "mlp"},
    {"mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias"},
    {"experts.#.w1", "experts.#.gate_proj"},
    {"experts.#.w3", "experts.#.up_proj"},
    {"experts.#.w2", "experts.#.down_proj"},
    {"experts.gate_and_up_projs", "experts.gate_up_proj"},
    {"experts.down_projs", "experts.down_proj"},
    {"self_attn.sinks", "self_attn.attention_sink_bias"},
};
constexpr std::string_view model_prefix = "model.";
constexpr std::size_t without_prefix = std::size(spellings);  // its place in a SpellingSet
static_assert(without_prefix < SpellingSet().size());

// The last component of each spelling in files.
constexpr auto endings = [] {
  std::array<std::string_view, std::size(spellings)> last;
  for (std::size_t i = 0; i < last.size(); ++i)
    last[i] = spellings[i].file.substr(spellings[i].file.rfind('.') + 1);  // npos + 1 is 0
  return last;
}();

// A spelling is met only where its last component is a whole one of the name. No replacement brings in another.
SpellingSet candidates(std::string_view name) {
  SpellingSet found;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    for (std::size_t i = 0; i < endings.size(); ++i)
      if (component == endings[i]) found.set(i);
    begin = end + 1;
  }
  return found;
}

std::size_t digits_at(std::string_view name, std::size_t at) {
  return std::min(name.find_first_not_of("0123456789", at), name.size()) - at;
}

// Length of the components at `at` that fit `pattern`, 0 if they do not.
std::size_t match_at(std::string_view name, std::size_t at, std::string_view pattern, std::string_view& number) {
  std::size_t end = at;
  for (const char c : pattern) {
    const std::size_t length = c == '#' ? digits_at(name, end) : end < name.size() && name[end] == c;
    if (length == 0) return 0;
    if (c == '#') number = name.substr(end, length);
    end += length;
  }
  return end == name.size() || name[end] == '.' ? end - at : 0;
}

// Replaces the first components that fit `from`. True if some did.
bool replace_components(std::string& name, std::string_view from, std::string_view to) {
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    std::string_view number;
    const std::size_t length = match_at(name, dot + 1, from, number);
    if (length == 0) continue;
    std::string written(to);
    if (const std::size_t place = written.find('#'); place != std::string::npos) written.replace(place, 1, number);
    name.replace(dot + 1, length, written);
    return true;
  }
  return false;
}

}  // namespace

std::string canonical_name(std::string_view name, SpellingSet* met) {
  const bool prefixed = name.starts_with(model_prefix);
  std::string canonical(prefixed ? name.substr(model_prefix.size()) : name);
  if (met && !prefixed && name.starts_with("layers.")) met->set(without_prefix);
  const SpellingSet possible = candidates(canonical);
  for (std::size_t i = 0; possible.any() && i < std::size(spellings); ++i)
    if (possible[i] && replace_components(canonical, spellings[i].file, spellings[i].canonical) && met) met->set(i);
  return canonical;
}

std::string file_spelling(std::string_view canonical, const SpellingSet& used) {
  std::string name(canonical);
  for (std::size_t i = std::size(spellings); i-- > 0;)
    if (used[i]) replace_components(name, spellings[i].canonical, spellings[i].file);
  return canonical.starts_with("lm_head.") || used[without_prefix] ? name : std::string(model_prefix) + name;
}

bool is_text_tensor(std::string_view canonical) noexcept {
  constexpr std::string_view modules[] = {"embed_tokens.", "layers.", "mtp.", "norm.", "lm_head."};
  return std::any_of(std::begin(modules), std::end(modules),
                     [&](auto module) { return canonical.starts_with(module); });
}

}  // namespace millrace
