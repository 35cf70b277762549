// KV files: the tokens of a sequence and what is cached of it, to go on later without computing it again.
//
// A safetensors file. Tensors in this order: "tokens" and "positions", I32 (tokens); then for each cache layer N
// "layers.N.keys", (kv_heads, rows, qk_dim), and "layers.N.values", (kv_heads, rows, v_dim), in the cache's dtype: the
// last rows of those cached, all of them in layers without a window. Metadata: "format"; "fingerprint", what the cached
// values depend on beside the tokens; "cached", the tokens that the cache covers; "fixed", the first tokens that say
// too little to compute them again; "xxh64" of these four, a zero byte after each, and of the data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/kv_cache.h"

namespace millrace {

// Writes the file whole or not at all (see SafetensorsWriter). `tokens` and `positions` are equally long, at least
// cache.length(). Throws Error(io) naming the file.
void write_kv_file(const std::filesystem::path& path, std::string_view fingerprint,
                   std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions, std::int64_t fixed,
                   const KvCache& cache);

struct KvFileTokens {
  std::vector<std::int32_t> tokens, positions;
  std::int64_t fixed = 0;  // 0 to tokens
};

// Fills `cache`, which must be empty and of the shapes that were saved. Every size is compared with the cache before
// memory is taken, and the checksum before anything returns. Throws Error naming the file, what was expected and what
// was found: not_found, io, bad_file; bad_argument for a sequence longer than the cache's capacity. Then the cache
// holds nothing. What the tokens and positions mean is for the caller to check.
KvFileTokens read_kv_file(const std::filesystem::path& path, std::string_view fingerprint, KvCache& cache);

}  // namespace millrace
