// Executor: computes for sessions of one engine, several of them in one pass if wanted, in one working memory. One per
// computing thread is enough: a session itself is then only its tokens and its cache.
// Used by one thread at a time. Results do not depend on what shares a pass.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/session.h"
#include "runtime/batch.h"
#include "runtime/workspace.h"

namespace millrace {

// What one session is to compute.
struct SessionStep {
  Session* session = nullptr;
  std::span<const std::int32_t> tokens;
  ForwardOptions options = {};  // without chunk, observer and progress, which belong to the pass
};

struct PassOptions {
  std::int64_t chunk = 0;              // most rows of a pass, of all sessions together; 0 = the engine's
  const Parallel* parallel = nullptr;  // computes, with at most the engine's threads; null = the engine's
  Observer* observer = nullptr;        // sees every pass; the runs of its batch are those of the sessions' caches
  std::function<void(std::int64_t done)> progress;  // as in ForwardOptions, of all sessions together
};

class Executor {
 public:
  // `engine` must outlive the executor.
  explicit Executor(const Engine& engine);

  const Engine& engine() const noexcept { return engine_; }

  // What Session::forward does, for every step; the logits are then in Session::logits. Rows of all steps are packed
  // into as few passes as the chunk allows, in order. Throws Error(bad_argument) for no steps, a session that is there
  // twice or belongs to another engine; an error of one of several steps says which, counting from 0. After any failure
  // every session holds what it held before.
  void forward(std::span<const SessionStep> steps, const PassOptions& options = {});

 private:
  // Consecutive rows of the batch that continue one session.
  struct Part {
    Session* session;
    std::int64_t begin, rows;  // tokens of the session
    std::int64_t logits_rows = 0;
  };

  void prepare(std::span<const SessionStep> steps, std::size_t index, std::int64_t chunk);
  void compute(std::span<const SessionStep> steps, const PassOptions& options);
  bool fill_batch(std::span<const SessionStep> steps, std::int64_t chunk);
  std::int64_t rows_that_fit(const Session& session, std::int64_t chunk) const noexcept;
  void add_part(Session& session, std::int64_t rows);
  void make_room();
  void run_pass(const PassOptions& options);
  void give_logits(std::int64_t first, std::int64_t count);
  void tell_drafters();

  const Engine& engine_;
  Workspace workspace_;
  Batch batch_;
  std::vector<Part> parts_;                // of the batch
  std::vector<std::int32_t> wanted_rows_;  // of the batch, that want logits
};

}  // namespace millrace
