#include "model/session.h"

#include <algorithm>
#include <cstring>

#include "loader/checkpoint.h"
#include "runtime/error.h"
#include "runtime/observer.h"

namespace millrace {
Session::Session(const Engine& engine)
    : engine_(engine),
      cache_(engine.program().kv_layers(), engine.kv_dtype(), engine.context()),
      workspace_(engine.program(), engine.workspace_limits()) {}

void Session::clear() noexcept {
  cache_.clear();
  tokens_.clear();
  next_position_ = 0;
}

void Session::check(std::span<const std::int32_t> tokens, const ForwardOptions& options) const {
  require(!tokens.empty(), Errc::bad_argument, "a pass over no tokens");
  const std::int64_t total = length() + std::ssize(tokens);
  require(total <= engine_.context(), Errc::bad_argument,
          "the context holds {} tokens, but {} are there and {} more were given", engine_.context(), length(),
          tokens.size());
  for (std::int32_t id : tokens)
    require(id >= 0 && id < engine_.config().vocab, Errc::bad_argument, "token id {}, expected 0 to {}", id,
            engine_.config().vocab - 1);
  require(options.positions.empty() || options.positions.size() == tokens.size(), Errc::bad_argument,
          "{} positions for {} tokens", options.positions.size(), tokens.size());
  for (std::int32_t position : options.positions)
    require(position >= 0 && position < engine_.config().max_positions, Errc::bad_argument,
            "position {}, expected 0 to {}", position, engine_.config().max_positions - 1);
}

std::span<const float> Session::forward(std::span<const std::int32_t> tokens, const ForwardOptions& options) {
  check(tokens, options);
  const std::int64_t count = std::ssize(tokens), vocab = engine_.config().vocab;
  const std::int64_t wanted = std::clamp<std::int64_t>(options.logits_rows, 0, count);
  const std::int64_t chunk = std::min(options.chunk > 0 ? options.chunk : engine_.chunk(), workspace_.limits().rows);
  if (WorkspaceLimits limits = workspace_.limits(); std::min(wanted, chunk) > limits.logits_rows) {
    limits.logits_rows = std::min(wanted, chunk);
    workspace_ = Workspace(engine_.program(), limits);
  }
  logits_.resize(static_cast<std::size_t>(wanted * vocab));

  positions_.assign(options.positions.begin(), options.positions.end());
  for (std::int32_t i = 0; std::ssize(positions_) < count; ++i) positions_.push_back(next_position_ + i);
  try {
    for (std::int64_t begin = 0; begin < count; begin += chunk) {
      const std::int64_t rows = std::min(chunk, count - begin);
      const auto first = static_cast<std::size_t>(begin), size = static_cast<std::size_t>(rows);
      const std::int64_t first_logits = std::clamp<std::int64_t>(count - wanted - begin, 0, rows);
      pass(tokens.subspan(first, size), std::span(positions_).subspan(first, size), first_logits, options.observer);
      if (const std::int64_t kept = rows - first_logits; kept > 0) {
        const std::byte* logits = workspace_.data(engine_.program().steps().back().outputs[0]);
        std::memcpy(logits_.data() + (begin + first_logits - (count - wanted)) * vocab, logits,
                    static_cast<std::size_t>(kept * vocab) * sizeof(float));
      }
      if (options.progress) options.progress(begin + rows);
    }
  } catch (...) {
    clear();
    throw;
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  next_position_ = positions_.back() + 1;
  return logits_;
}

void Session::pass(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
                   std::int64_t first_logits, Observer* observer) {
  engine_.checkpoint().check_sizes();
  const std::int64_t rows = std::ssize(tokens);
  batch_.tokens.assign(tokens.begin(), tokens.end());
  batch_.positions.assign(positions.begin(), positions.end());
  batch_.runs.assign(1, {.cache = &cache_, .begin = 0, .end = rows});
  batch_.logits_rows.clear();
  for (std::int64_t row = first_logits; row < rows; ++row) batch_.logits_rows.push_back(static_cast<std::int32_t>(row));
  engine_.program().run(batch_, workspace_, engine_.parallel(), observer);
}

}  // namespace millrace
