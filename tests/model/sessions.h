// A session against one that was fed the same tokens and nothing else.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/session.h"
#include "runtime/error.h"
#include "runtime/observer.h"
#include "tests/support/paths.h"
#include "tests/support/random.h"

namespace millrace::test {

using Tokens = std::vector<std::int32_t>;

inline std::unique_ptr<Engine> open_golden(const std::string& name, Numerics numerics, EngineOptions options = {}) {
  if (options.threads == 0) options.threads = 1;
  options.numerics = numerics;
  return Engine::open(golden_dir() + "/models/" + name, options);
}

inline Tokens random_tokens(Random& random, const Engine& engine, std::int64_t count) {
  Tokens tokens(static_cast<std::size_t>(count));
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random.below(engine.config().vocab));
  return tokens;
}

inline Tokens joined(Tokens first, const Tokens& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

inline std::vector<float> logits_of(Session& session, const Tokens& tokens, ForwardOptions options = {}) {
  options.logits_rows = std::ssize(tokens);
  const auto logits = session.forward(tokens, options);
  return {logits.begin(), logits.end()};
}

// The logits of `tokens` after `prefix` in a session of their own.
inline std::vector<float> fresh_logits(const Engine& engine, const Tokens& prefix, const Tokens& tokens) {
  Session session(engine);
  if (!prefix.empty()) session.forward(prefix);
  return logits_of(session, tokens);
}

// Ends the `passes`-th pass at a step of its choice.
class FailAt final : public Observer {
 public:
  FailAt(std::string step, int passes) : step_(std::move(step)), passes_(passes) {}
  void before(const Program&, const Step& step) override {
    if (step.name == step_ && --passes_ == 0) fail(Errc::cancelled, "ended at {}", step_);
  }
  void after(const Program&, const Step&, const StepContext&) override {}

 private:
  std::string step_;
  int passes_;
};

}  // namespace millrace::test
