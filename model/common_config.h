// What every family's configuration says in the same way: ranges of fields, sizes of the model, names.
// Pure functions, safe from any thread.
#pragma once

#include <string>
#include <string_view>

#include "model/config.h"
#include "model/config_reader.h"

namespace millrace {

inline constexpr IntegerRange layer_range{1, 4096};
inline constexpr IntegerRange vocab_range{1, 1 << 24};
inline constexpr IntegerRange hidden_range{1, 1 << 20};
inline constexpr IntegerRange width_range{1, 1 << 20};
inline constexpr IntegerRange head_range{1, 1 << 16};
inline constexpr IntegerRange head_dim_range{1, 1 << 16};
inline constexpr IntegerRange expert_range{1, 1 << 16};
inline constexpr IntegerRange position_range{1, (std::int64_t{1} << 31) - 2};
inline constexpr NumberRange theta_range{1e-3, 1e15};
inline constexpr NumberRange scale_range{1e-6, 1e6};

// Throws bad_config if the text `key` is present and not `expected`.
void expect_text(const ConfigReader& config, std::string_view key, std::string_view expected);

// Throws bad_config if the flag `key` is present and not `expected`.
void expect_bool(const ConfigReader& config, std::string_view key, bool expected);

// Throws bad_config unless a list `key` has one entry for each of the layers.
void check_length(const ConfigReader& config, std::string_view key, std::size_t found, std::int64_t layers);

// Throws bad_config unless the query heads are a multiple of the kv heads. `prefix` opens the names of both keys.
void check_heads(const ConfigReader& config, const LayerSpec& layer, std::string_view prefix);

// Sets architecture (the first that is listed) and model_type, both empty where absent.
void read_names(const ConfigReader& config, ModelConfig& model);

// Sets these names, vocabulary, hidden size, positions, epsilon, tied embeddings and end-of-sequence ids.
void read_common(const ConfigReader& config, ModelConfig& model);

}  // namespace millrace
