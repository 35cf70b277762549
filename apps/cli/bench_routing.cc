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
  std::string text = fmt::format("{:>8} {:>8} {:>8} {:>8} {:>10} {:>8} {:>15} {:>10}\n", "cache", "experts", "LRU",
                                 "ours", "informed", "Belady", "ours/informed", "/Belady");
  for (const int percent : {5, 10, 20, 40}) {
    const std::int64_t slots = std::max<std::int64_t>(1, trace.total_experts() * percent / 100);
    LruPolicy lru(trace.experts());
    FrequencyPolicy frequency(trace.experts());
    InformedPolicy informed(trace);
    BeladyPolicy belady(trace);
    const auto rate = [&](ExpertPolicy& policy) { return replay(trace, slots, policy).hit_rate(); };
    const double ours = rate(frequency), known = rate(informed), best = rate(belady);
    const auto of = [&](double limit) { return limit > 0 ? ours / limit : 1; };
    text += fmt::format("{:>6} % {:>8} {:>6.1f} % {:>6.1f} % {:>8.1f} % {:>6.1f} % {:>15.2f} {:>10.2f}\n", percent,
                        slots, 100 * rate(lru), 100 * ours, 100 * known, 100 * best, of(known), of(best));
  }
  return text +
         fmt::format(
             "Belady knows the future. informed knows of it what the coming layers of the same token ask for, and\n"
             "how often each expert is used in the next {} passes: more than what has happened can tell.\n",
             InformedPolicy::window);
}

}  // namespace millrace
