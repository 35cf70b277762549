// Rotary embeddings in a configuration: rope_scaling (published files) and rope_parameters (Transformers 5).
// Pure functions, safe from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/config_reader.h"

namespace millrace {

// Leading dimensions of a head of `head_dim` that rotate: the integer part of head_dim * factor. Throws bad_config
// naming `where` when that is odd, which implementations read differently, or zero.
std::int64_t rotary_dim(std::int64_t head_dim, double factor, const std::string& where);

// `key` of the configuration and `inner` of its rope_parameters mean the same: the value of the one that is present.
// Throws bad_config naming both where they differ.
std::optional<double> find_rope_number(const ConfigReader& config, std::string_view key,
                                       const std::optional<ConfigReader>& parameters, std::string_view inner,
                                       NumberRange range);

// Sets the type of `rope` and what it needs from rope_scaling, rope_parameters or both, which must then agree; each
// has rope_type (or type): default, linear or yarn. `rope.theta` is already set. Another type, or a yarn variant that
// would change the frequencies, is bad_config.
void read_rope_scaling(const std::optional<ConfigReader>& scaling, const std::optional<ConfigReader>& parameters,
                       RopeSpec& rope);

}  // namespace millrace
