// Session: one sequence of tokens with its KV cache. Used by one thread at a time, which is also that of its executor
// and of its forks.
//
// The tokens say what the session is; the cache may hold less. What it lacks is computed again, from the tokens, before
// the next new ones: after a cut that its rings do not cover. Results do not depend on it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/call_inputs.h"
#include "model/drafter.h"
#include "model/engine.h"
#include "model/guess_policy.h"
#include "model/logits_rows.h"
#include "runtime/kv_cache.h"

namespace millrace {

class Executor;
class Observer;

struct ForwardOptions {
  std::span<const std::int32_t> positions = {};  // of the new tokens; empty = counting on from the last one
  LogitsRows logits_rows = 1;                    // the new rows that want logits: a number of last ones, all, chosen
  bool use_cache = true;                         // false computes all tokens again, as if nothing were cached
  std::int64_t chunk = 0;                        // rows per pass; 0 = the engine's
  Observer* observer = nullptr;                  // sees every pass; rows computed again come before the new ones
  // Called between passes with the new tokens done so far, 0 while others are computed again; may throw
  // Error(cancelled).
  std::function<void(std::int64_t done)> progress;
  ForwardInputs inputs = {};  // embeddings, masks, experts; attention probabilities
  // If set, logits are given to it as they are computed, a few rows at a time: `first` is the place of the first of
  // them among the rows that want logits, in whose order they come. None are kept then, and forward returns nothing.
  std::function<void(std::int64_t first, std::span<const float> logits)> take_logits = {};
};

class Session {
 public:
  // With working memory of its own. `engine` must outlive the session.
  explicit Session(const Engine& engine);
  // With working memory that other sessions of the executor's engine use too.
  explicit Session(std::shared_ptr<Executor> executor);

  // A session that holds the same, to go on in another way; speculation starts anew. What is cached is not copied but
  // for rings and the last page; the executor is shared. Throws Error(out_of_memory).
  Session fork() const;

  const Engine& engine() const noexcept { return engine_; }
  // Tokens the session holds.
  std::span<const std::int32_t> tokens() const noexcept { return tokens_; }
  std::span<const std::int32_t> positions() const noexcept { return positions_; }  // of each token
  std::int64_t length() const noexcept { return static_cast<std::int64_t>(tokens_.size()); }
  const KvCache& cache() const noexcept { return cache_; }  // of the first cache().length() tokens

  // Appends the tokens and computes. Returns the logits (kept rows, vocab), valid until the next call: memory beyond
  // the plan where more than a few rows want them. Either tokens or ForwardInputs::embeddings are given; rows of
  // embeddings are kept as tokens of id -1. Masks are computed in one pass however long. Rows whose inputs were more
  // than tokens and positions cannot be computed again: should that become necessary, Error(unsupported) says so, and
  // clear() makes the session usable. Throws Error(bad_argument) for ids outside the vocabulary, an empty list, a full
  // context or what CallInputs refuses. After any failure the session is what it was before. Several sessions in one
  // pass: Executor::forward.
  std::span<const float> forward(std::span<const std::int32_t> tokens, const ForwardOptions& options = {});
  // What the last forward returned.
  std::span<const float> logits() const noexcept { return logits_; }

  // Adds tokens for the next forward to compute before its own. Throws Error(bad_argument) as forward does.
  void append(std::span<const std::int32_t> tokens);
  // Forgets what does not begin `prompt`, which is not empty, and at least its last token, whose logits are wanted.
  // Returns how many tokens stay.
  std::int64_t keep_beginning_of(std::span<const std::int32_t> prompt);

  // Forgets the tokens from `length` on. Cheap for as many as KvCache::ring_slack last ones, or any number in a model
  // without sliding layers; else the next forward computes the kept ones again. Either way results are those of a
  // session that never held the others. Throws Error(bad_argument) unless 0 <= length <= length().
  void truncate(std::int64_t length);
  void clear() noexcept { truncate(0); }

  // What speculation (speculation.h) knows of this sequence. Null if the engine has loaded no prediction layers, or
  // rows came with more than tokens, which prediction layers do not take.
  Drafter* drafter() noexcept { return drafter_ && fixed_ == 0 ? &*drafter_ : nullptr; }
  GuessPolicy& guess_policy() noexcept { return guess_policy_; }

  // Becomes the sequence of `tokens`, at positions from 0 on, of which `cache` holds every one: computed elsewhere, or
  // made up to be measured. Throws Error(bad_argument) for ids outside the vocabulary and a cache of other layers,
  // another type, length or capacity.
  void adopt(std::span<const std::int32_t> tokens, KvCache cache);

  // Writes tokens, positions and cache to a file (loader/kv_file.h), whole or not at all. Throws Error(io).
  void save(const std::filesystem::path& path) const;
  // Becomes what was saved. Throws Error, naming the file, what was expected and what was found, for a file that is
  // damaged, belongs to another model, other numerics or another window (fingerprint_of), or does not fit the context;
  // the session is then as before.
  void load(const std::filesystem::path& path);

 private:
  friend class Executor;

  // A forward in progress, for the executor: prepare() throws what is wrong with the call, begin() appends the tokens;
  // once all of them are computed commit() follows, and roll_back() after a failure.
  struct Call {
    std::int64_t held = 0;  // tokens before it
    std::int64_t rows = 0;  // new ones
    LogitsRows logits_rows = 0;
    std::int64_t logits_done = 0;
    const std::function<void(std::int64_t, std::span<const float>)>* take_logits = nullptr;  // the caller's, or none
    bool use_cache = true;
    bool changes_rows = false;  // so that they cannot be computed again
    std::optional<CallInputs> inputs;
    std::optional<KvCache> before;  // the cache, if the call overwrites more of the rings than can be taken back
  };
  void prepare(std::span<const std::int32_t> tokens, const ForwardOptions& options, std::int64_t chunk);
  void begin(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions);
  void commit() noexcept;
  void roll_back() noexcept;

  std::int64_t new_rows(std::span<const std::int32_t> tokens, const ForwardInputs& inputs) const;
  void check(std::span<const std::int32_t> tokens, std::int64_t rows, const ForwardOptions& options) const;
  // Rows behind the others; those without a token are embeddings, those without a position count on.
  void add_tokens(std::span<const std::int32_t> tokens, std::int64_t rows, std::span<const std::int32_t> positions);
  void reserve_tokens();
  void cut_cache(std::int64_t rows) noexcept;

  const Engine& engine_;
  std::shared_ptr<Executor> executor_;
  KvCache cache_;
  std::vector<std::int32_t> tokens_, positions_;  // the first cache_.length() of them are cached
  std::int64_t fixed_ = 0;                        // the first so many tokens cannot be computed again
  std::vector<float> logits_;
  std::optional<Drafter> drafter_;
  GuessPolicy guess_policy_;
  std::optional<Call> call_;
};

}  // namespace millrace
