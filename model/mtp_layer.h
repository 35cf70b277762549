// MtpLayer: one multi-token-prediction layer at work on one sequence. The Program is the engine's; cache and working
// memory are its own. Row t takes the main model's hidden state of row t, before the final norm, and token
// t + 1 + index, and guesses token t + 2 + index. Used by one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/call_inputs.h"
#include "model/engine.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/workspace.h"

namespace millrace {

class Observer;

class MtpLayer {
 public:
  // `program` is one of the engine's, which must outlive the layer. A pass has at most `rows` rows, of which at most
  // `logits_rows` want logits.
  MtpLayer(const Engine& engine, const Program& program, std::int64_t rows, std::int64_t logits_rows);

  std::int64_t max_rows() const noexcept { return workspace_.limits().rows; }
  std::int64_t length() const noexcept { return cache_.length(); }  // rows it has seen

  // Where the hidden states of the coming pass belong: (max_rows, hidden).
  float* hidden() noexcept { return reinterpret_cast<float*>(workspace_.data(hidden_)); }

  // One pass over the rows of hidden(), which follow those it has seen. Returns the logits of the last `logits_rows`
  // of them, (logits_rows, vocab), valid until the next pass. Throws what Program::run throws; clear() after that.
  // `inputs`, which may be null, holds masks of these rows and embeddings in place of those of the tokens.
  std::span<const float> forward(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
                                 std::int64_t logits_rows, Observer* observer = nullptr,
                                 const RunInputs* inputs = nullptr);

  // What left the layer in the last pass, before its final norm: (rows, hidden).
  const float* output() const noexcept { return reinterpret_cast<const float*>(workspace_.data(output_)); }

  // Forgets the rows from `rows` on; all of them where the ring of its cache no longer holds what the next one sees.
  void truncate(std::int64_t rows);
  void clear() noexcept { cache_.clear(); }

 private:
  const Engine& engine_;
  const Program& program_;
  ValueId hidden_, output_, logits_;
  KvCache cache_;
  Workspace workspace_;
  Batch batch_;
};

// Hidden states where they are kept: fills `target` with those of `rows` rows from `first` on.
using HiddenRows = std::function<void(std::int64_t first, std::int64_t rows, float* target)>;
// Given logits as they are computed, (rows, vocab), in order.
using TakeLogits = std::function<void(std::span<const float> logits)>;

// A prediction layer over a whole sequence of T tokens whose hidden states, (T, hidden), are known. Computes T - 1 -
// index rows, a few at a time where there are no masks. `take`, which may be empty, is given their logits; the observer
// may be null.
//
// `inputs` are those of the call that computed the hidden states, the first of its sequence. Row t takes embedding
// t + 1 + index of those given (tokens are then ignored), and padding and masks hide from it what they hide from row t
// in the main model's sliding layers. A row of padding, or one that takes a token of it, means nothing. Throws what
// CallInputs throws, Error(bad_argument) for a row that sees nothing but keys the layer lacks, and Error(out_of_memory)
// where masks demand a pass that was not planned for.
void run_mtp_layer(const Engine& engine, int index, std::span<const std::int32_t> tokens,
                   std::span<const std::int32_t> positions, const HiddenRows& hidden, const TakeLogits& take,
                   Observer* observer, const ForwardInputs& inputs = {});

// The same with all hidden states and all logits, (rows, vocab), in memory.
std::vector<float> mtp_logits(const Engine& engine, int index, std::span<const std::int32_t> tokens,
                              std::span<const std::int32_t> positions, std::span<const float> hidden,
                              Observer* observer, const ForwardInputs& inputs = {});

}  // namespace millrace
