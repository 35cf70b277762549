// The names of the dump format, and which values of a Program a user's patterns choose.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/program.h"

namespace millrace {

// Whether `name` is a value of the dump format: residual streams, norms, attention and MLP outputs, routing. Other
// values of a Program are how it happens to compute, and differ from release to release.
bool is_dump_name(std::string_view name);

// Whether `patterns` may ask for values of multi-token-prediction layers.
bool asks_for_mtp(const std::vector<std::string>& patterns);

// The values of each program that `patterns` ask for, in the order of the program, without the main model's logits.
// "all" and patterns with '*' or '?' choose among the names of the dump format; a plain name may be any value. Throws
// Error(bad_argument) for a pattern that chooses nothing, naming near ones.
std::vector<std::vector<ValueId>> select_values(const std::vector<const Program*>& programs,
                                                const std::vector<std::string>& patterns);

}  // namespace millrace
