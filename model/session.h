// Session: one sequence of tokens with its KV cache and its working memory. Used by one thread at a time.
//
// The tokens say what the session is; the cache may hold less. What it lacks is computed again, from the tokens, before
// the next new ones: after a cut that its rings do not cover, or after a failed pass. Results do not depend on it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "model/drafter.h"
#include "model/engine.h"
#include "model/guess_policy.h"
#include "model/call_inputs.h"
#include "model/engine.h"
#include "model/logits_rows.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/workspace.h"

namespace millrace {

class Observer;

struct ForwardOptions {
  std::span<const std::int32_t> positions = {};  // of the new tokens; empty = counting on from the last one
  LogitsRows logits_rows = 1;                    // the new rows that want logits: a number of last ones, all, chosen
  std::int64_t chunk = 0;                        // rows per pass; 0 = the engine's
  Observer* observer = nullptr;                  // sees every pass; rows computed again come before the new ones
  // Called between passes with the new tokens done so far, 0 while others are computed again; may throw
  // Error(cancelled).
  std::function<void(std::int64_t done)> progress;
  ForwardInputs inputs = {};  // embeddings, masks, experts; attention probabilities
};

class Session {
 public:
  // `engine` must outlive the session.
  explicit Session(const Engine& engine);

  const Engine& engine() const noexcept { return engine_; }
  // Tokens the session holds.
  std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  std::span<const std::int32_t> positions() const noexcept { return positions_; }  // of each token
  std::int64_t length() const noexcept { return static_cast<std::int64_t>(tokens_.size()); }

  // Appends the tokens and computes. Returns the logits (kept rows, vocab), valid until the next call.
  // Either tokens or ForwardInputs::embeddings are given; rows of embeddings are kept as tokens of id -1. Masks are
  // computed in one pass however long. Rows whose inputs were more than tokens and positions cannot be computed again:
  // should that become necessary, Error(unsupported) says so, and clear() makes the session usable.
  // Throws Error(bad_argument) for ids outside the vocabulary, an empty list, a full context or what CallInputs
  // refuses. After any failure the session holds the tokens it held before.
  std::span<const float> forward(std::span<const std::int32_t> tokens, const ForwardOptions& options = {});

  // Forgets the tokens from `length` on. Cheap for as many as KvCache::ring_slack last ones, or any number in a model
  // without sliding layers; else the next forward computes the kept ones again. Either way results are those of a
  // session that never held the others. Throws Error(bad_argument) unless 0 <= length <= length().
  void truncate(std::int64_t length);
  void clear() noexcept { truncate(0); }

  // What speculation (speculation.h) knows of this sequence. Null if the engine has loaded no prediction layers.
  Drafter* drafter() noexcept { return drafter_ ? &*drafter_ : nullptr; }
  GuessPolicy& guess_policy() noexcept { return guess_policy_; }

 private:
  std::int64_t new_rows(std::span<const std::int32_t> tokens, const ForwardInputs& inputs) const;
  void check(std::span<const std::int32_t> tokens, std::int64_t rows, const ForwardOptions& options) const;
  void append(std::span<const std::int32_t> tokens, std::int64_t rows, std::span<const std::int32_t> positions);
  void compute(std::int64_t kept, const ForwardOptions& options, CallInputs* inputs);
  void pass(std::int64_t begin, std::int64_t rows, const RunInputs* inputs, Observer* observer);
  void make_room(std::int64_t rows, std::int64_t logits_rows);

  const Engine& engine_;
  KvCache cache_;
  Workspace workspace_;
  Batch batch_;
  std::vector<std::int32_t> tokens_, positions_;  // the first cache_.length() of them are cached
  std::int64_t fixed_ = 0;                        // the first so many tokens cannot be computed again
  std::vector<float> logits_;
  std::optional<Drafter> drafter_;
  GuessPolicy guess_policy_;
};

}  // namespace millrace
