// Session: one sequence of tokens with its KV cache and its working memory. Used by one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/engine.h"
#include "runtime/batch.h"
#include "runtime/kv_cache.h"
#include "runtime/workspace.h"

namespace millrace {

class Observer;

struct ForwardOptions {
  std::span<const std::int32_t> positions = {};  // of the new tokens; empty = counting on from the last one
  std::int64_t logits_rows = 1;                  // logits of the last so many new rows; at most all of them
  std::int64_t chunk = 0;                        // rows per pass; 0 = the engine's
  Observer* observer = nullptr;
  // Called between passes with the new tokens done so far; may throw Error(cancelled).
  std::function<void(std::int64_t done)> progress;
};

class Session {
 public:
  // `engine` must outlive the session.
  explicit Session(const Engine& engine);

  const Engine& engine() const noexcept { return engine_; }
  // Tokens the session holds.
  std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  std::int64_t length() const noexcept { return static_cast<std::int64_t>(tokens_.size()); }

  // Appends the tokens and computes. Returns the logits (kept rows, vocab), valid until the next call.
  // Throws Error(bad_argument) for ids outside the vocabulary, an empty list or a full context (the session is then as
  // before); any other failure leaves the session empty, since rings may have lost rows.
  std::span<const float> forward(std::span<const std::int32_t> tokens, const ForwardOptions& options = {});

  void clear() noexcept;

 private:
  void check(std::span<const std::int32_t> tokens, const ForwardOptions& options) const;
  void pass(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions, std::int64_t first_logits,
            Observer* observer);

  const Engine& engine_;
  KvCache cache_;
  Workspace workspace_;
  Batch batch_;
  std::vector<std::int32_t> tokens_, positions_;
  std::int32_t next_position_ = 0;
  std::vector<float> logits_;
};

}  // namespace millrace
