// `millrace bench --trace-experts` and `--replay`: which experts a run asks for, and what caches would have made of it.
#pragma once

#include <cstdint>
#include <string>

#include "loader/routing_trace.h"
#include "model/engine.h"

namespace millrace {

// The routing of a text that the model makes up: its tokens are drawn from its own distribution with a fixed seed.
RoutingTrace trace_experts(const Engine& engine, std::int64_t tokens);

// A table: hit rates of the policies at several sizes of the cache.
std::string replay_report(const RoutingTrace& trace);

}  // namespace millrace
