// What the values in a KV cache depend on beside the tokens.
#pragma once

#include <string>

namespace millrace {

class Engine;

// SHA-256, in hexadecimal, of the configuration, the numerics, the shapes of the cache (an overridden window included),
// the name, type and shape of every tensor, and a sample of the weights: 4 KiB from the middle of each tensor, of
// experts only the first of a layer. Throws Error(io) naming the file.
std::string fingerprint_of(const Engine& engine);

}  // namespace millrace
