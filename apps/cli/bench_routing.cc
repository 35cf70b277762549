#include "apps/cli/bench_routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "loader/policy_replay.h"
#include "model/routing_recorder.h"
#include "model/session.h"
#include "runtime/sampler.h"

namespace millrace {

RoutingTrace trace_experts(const Engine& engine, std::int64_t tokens) {
  RoutingRecorder recorder(engine.config());
  Session session(engine);
  Sampler sampler({.temperature = 1, .seed = 1}, engine.config().vocab, engine.config().vocab);
  std::vector<std::int32_t> history = {0};
  while (std::ssize(history) <= tokens) {
    const auto logits = session.forward(std::span(history).last(1), {.observer = &recorder});
    history.push_back(sampler.sample(logits, history));
  }
  return recorder.trace();
}

std::string replay_report(const RoutingTrace& trace) {
  std::string text =
      fmt::format("{:>8} {:>8} {:>8} {:>8} {:>8} {:>10}\n", "cache", "experts", "LRU", "ours", "Belady", "of Belady");
  for (const int percent : {5, 10, 20, 40}) {
    const std::int64_t slots = std::max<std::int64_t>(1, trace.total_experts() * percent / 100);
    LruPolicy lru(trace.experts());
    FrequencyPolicy ours(trace.experts());
    BeladyPolicy belady(trace);
    const double best = replay(trace, slots, belady).hit_rate(), rate = replay(trace, slots, ours).hit_rate();
    text += fmt::format("{:>6} % {:>8} {:>6.1f} % {:>6.1f} % {:>6.1f} % {:>10.2f}\n", percent, slots,
                        100 * replay(trace, slots, lru).hit_rate(), 100 * rate, 100 * best, best > 0 ? rate / best : 1);
  }
  return text;
}

}  // namespace millrace
