// Made-up input of benchmarks: the same every time, so that every time the same experts are read.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/executor.h"

namespace millrace {

// Random ids.
std::vector<std::int32_t> made_up_tokens(const Engine& engine, std::int64_t count);

// A session that holds `depth` of them, with random keys and values: attending to them takes the same time as to true
// ones, and no prefill is needed.
Session made_up_session(const std::shared_ptr<Executor>& executor, std::int64_t depth);

}  // namespace millrace
