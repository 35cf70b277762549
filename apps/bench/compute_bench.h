// ComputeBench: prefills and decodes of an engine, to be timed again and again. Tokens are made up
// (made_up.h). Used by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "apps/bench/report.h"
#include "model/executor.h"
#include "runtime/trace.h"

namespace millrace {

struct ComputeCase {
  std::int64_t prompt = 0;    // tokens of a prefill; 0: a decode
  std::int64_t batch = 1;     // sessions in one pass
  std::int64_t depth = 0;     // tokens each of them holds before
  std::int64_t generate = 0;  // passes

  bool operator==(const ComputeCase&) const = default;
};

class ComputeBench {
 public:
  // `engine` must outlive it and be opened for as many threads as any `parallel` below has.
  explicit ComputeBench(const Engine& engine);

  // Memory it takes beside a session that is full, for decodes of so many sessions and passes.
  static std::uint64_t bytes_for(const Engine& headers, std::int64_t batch, std::int64_t passes);

  const Engine& engine() const noexcept { return engine_; }

  // Computes what fits the context once and returns the seconds of a prefill, or of all decoding passes but a first
  // one, which is not timed. `observer`, which may be null, sees what is timed.
  double run(const ComputeCase& what, const Parallel& parallel, Observer* observer);

  // Bytes of the experts that were missing in what run() timed last; 0 where all are in memory.
  double missed_bytes() const noexcept { return missed_bytes_; }
  // Seconds of one decoding pass with the experts it asks for in memory: the same pass again and again. 0 where they do
  // not all fit.
  double seconds_without_misses(const ComputeCase& what, const Parallel& parallel);

  // The same with a trace: what a prefill, or one decoding pass on average, moves and multiplies, and how long each
  // kind of operator takes.
  void describe(const ComputeCase& what, const Parallel& parallel, BenchResult& result);

 private:
  std::uint64_t misses_so_far() const;
  const Session& holding(std::int64_t depth);

  const Engine& engine_;
  std::shared_ptr<Executor> executor_;
  std::optional<Session> held_;  // one depth at a time: they are large
  double missed_bytes_ = 0;
};

}  // namespace millrace
