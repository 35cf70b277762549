#include "model/session.h"

#include <algorithm>
#include <cstring>

#include "loader/checkpoint.h"
#include "runtime/error.h"
#include "runtime/observer.h"

namespace millrace {
namespace {

// Room for so many tokens is taken at once, so that a step of decoding does not grow a list.
constexpr std::int64_t most_reserved = 1 << 20;

}  // namespace

Session::Session(const Engine& engine)
    : engine_(engine),
      cache_(engine.program().kv_layers(), engine.kv_dtype(), engine.context()),
      workspace_(engine.program(), engine.workspace_limits()) {
  const auto room = static_cast<std::size_t>(std::min(engine.context(), most_reserved));
  tokens_.reserve(room);
  positions_.reserve(room);
  if (!engine.mtp_programs().empty()) drafter_.emplace(engine);
}

void Session::truncate(std::int64_t length) {
  require(length >= 0 && length <= this->length(), Errc::bad_argument, "a session of {} tokens cut back to {}",
          this->length(), length);
  tokens_.resize(static_cast<std::size_t>(length));
  positions_.resize(static_cast<std::size_t>(length));
  const std::int64_t rows = std::min(length, cache_.length());
  cache_.truncate(cache_.can_truncate(rows) ? rows : 0);
  if (drafter_) drafter_->truncate(cache_.length());
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
  if (options.positions.empty() && !positions_.empty())
    require(positions_.back() + std::ssize(tokens) < engine_.config().max_positions, Errc::bad_argument,
            "{} tokens after position {}, but positions end at {}", tokens.size(), positions_.back(),
            engine_.config().max_positions - 1);
}

void Session::append(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions) {
  std::int32_t next = positions_.empty() ? 0 : positions_.back() + 1;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  positions_.insert(positions_.end(), positions.begin(), positions.end());
  while (positions_.size() < tokens_.size()) positions_.push_back(next++);
}

std::span<const float> Session::forward(std::span<const std::int32_t> tokens, const ForwardOptions& options) {
  check(tokens, options);
  const std::int64_t held = length();
  try {
    const std::int64_t wanted = std::clamp<std::int64_t>(options.logits_rows, 0, std::ssize(tokens));
    logits_.resize(static_cast<std::size_t>(wanted * engine_.config().vocab));
    append(tokens, options.positions);
    compute(held, options);
  } catch (...) {
    truncate(held);
    throw;
  }
  return logits_;
}

// Computes all tokens that the cache lacks. Those before `kept` were computed before, and their logits are not wanted.
void Session::compute(std::int64_t kept, const ForwardOptions& options) {
  const std::int64_t vocab = engine_.config().vocab, first_logits = length() - std::ssize(logits_) / vocab;
  const std::int64_t chunk = std::min(options.chunk > 0 ? options.chunk : engine_.chunk(), workspace_.limits().rows);
  while (cache_.length() < length()) {
    const std::int64_t begin = cache_.length();
    const std::int64_t rows = std::min(chunk, (begin < kept ? kept : length()) - begin);
    const std::int64_t logits_rows = std::clamp<std::int64_t>(begin + rows - first_logits, 0, rows);
    pass(begin, rows, logits_rows, options.observer);
    if (logits_rows > 0)
      std::memcpy(logits_.data() + (begin + rows - logits_rows - first_logits) * vocab,
                  workspace_.data(engine_.program().steps().back().outputs[0]),
                  static_cast<std::size_t>(logits_rows * vocab) * sizeof(float));
    if (options.progress) options.progress(std::max<std::int64_t>(0, cache_.length() - kept));
  }
}

// One pass over tokens [begin, begin + rows), the last `logits_rows` of which want logits.
void Session::pass(std::int64_t begin, std::int64_t rows, std::int64_t logits_rows, Observer* observer) {
  engine_.checkpoint().check_sizes();
  if (WorkspaceLimits limits = workspace_.limits(); logits_rows > limits.logits_rows) {
    limits.logits_rows = logits_rows;
    workspace_ = Workspace(engine_.program(), limits);
  }
  batch_.tokens.assign(tokens_.begin() + begin, tokens_.begin() + begin + rows);
  batch_.positions.assign(positions_.begin() + begin, positions_.begin() + begin + rows);
  batch_.runs.assign(1, {.cache = &cache_, .begin = 0, .end = rows});
  batch_.logits_rows.clear();
  for (std::int64_t row = rows - logits_rows; row < rows; ++row)
    batch_.logits_rows.push_back(static_cast<std::int32_t>(row));
  engine_.program().run(batch_, workspace_, engine_.parallel(), observer);
  if (drafter_)
    drafter_->take(begin, batch_.positions,
                   reinterpret_cast<const float*>(workspace_.data(engine_.program().kept()[0])));
}

}  // namespace millrace
