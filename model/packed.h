// Packed sequences: several sequences in one list of tokens, told apart by an id per token. Each is computed as if it
// were alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/engine.h"

namespace millrace {

class Executor;

struct PackedOptions {
  std::span<const std::int32_t> positions = {};  // of each token; empty = counting from 0 in every sequence
  bool logits = true;
  bool hidden = false;     // the last hidden states, after the final norm
  std::int64_t chunk = 0;  // rows per pass; 0 = the engine's
};

struct PackedResult {
  std::vector<float> logits;  // (tokens, vocab), in the order of the tokens
  std::vector<float> hidden;  // (tokens, hidden)
};

// Tokens with the same id form a sequence, in their order; sequences may be interleaved. Nothing is kept afterwards.
// Throws Error(bad_argument) for no tokens, unless there is one id per token, and as Executor::forward does.
PackedResult forward_packed(const std::shared_ptr<Executor>& executor, std::span<const std::int32_t> tokens,
                            std::span<const std::int32_t> sequence_ids, const PackedOptions& options = {});

}  // namespace millrace
