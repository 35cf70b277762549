// Names of tensors: files spell them in several ways, the rest of the library in one.
//
// A canonical name is the name in the published MiMo files without the leading "model.":
// "layers.3.self_attn.attention_sink_bias". Pure functions and a value type.
#pragma once

#include <bitset>
#include <string>
#include <string_view>

namespace millrace {

// Which spellings other than the published MiMo one some files use.
using SpellingSet = std::bitset<16>;

// The canonical form of a name in a file. Adds the spellings that were met to `met`.
std::string canonical_name(std::string_view name, SpellingSet* met = nullptr);

// How files that use these spellings name a tensor: "model.layers.0.mlp.gate.weight", "lm_head.weight". For messages.
std::string file_spelling(std::string_view canonical, const SpellingSet& used = {});

// Whether a canonical name belongs to the text model: files of some relatives also hold towers for images and sound.
bool is_text_tensor(std::string_view canonical) noexcept;

}  // namespace millrace
