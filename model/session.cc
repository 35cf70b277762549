#include "model/session.h"

#include <algorithm>
#include <cstring>
#include <optional>

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
  fixed_ = std::min(fixed_, length);
}

// How many rows a call adds: tokens, or embeddings.
std::int64_t Session::new_rows(std::span<const std::int32_t> tokens, const ForwardInputs& inputs) const {
  if (inputs.embeddings.data() == nullptr) return std::ssize(tokens);
  require(tokens.empty(), Errc::bad_argument, "{} tokens and embeddings, expected one of the two", tokens.size());
  const std::int64_t hidden = engine_.config().hidden;
  require(std::ssize(inputs.embeddings) % hidden == 0, Errc::bad_argument,
          "embeddings of {} values, expected rows of {}", inputs.embeddings.size(), hidden);
  return std::ssize(inputs.embeddings) / hidden;
}

void Session::check(std::span<const std::int32_t> tokens, std::int64_t rows, const ForwardOptions& options) const {
  require(rows > 0, Errc::bad_argument, "a pass over no tokens");
  require(length() + rows <= engine_.context(), Errc::bad_argument,
          "the context holds {} tokens, but {} are there and {} more were given", engine_.context(), length(), rows);
  for (std::int32_t id : tokens)
    require(id >= 0 && id < engine_.config().vocab, Errc::bad_argument, "token id {}, expected 0 to {}", id,
            engine_.config().vocab - 1);
  require(options.positions.empty() || std::ssize(options.positions) == rows, Errc::bad_argument,
          "{} positions for {} tokens", options.positions.size(), rows);
  for (std::int32_t position : options.positions)
    require(position >= 0 && position < engine_.config().max_positions, Errc::bad_argument,
            "position {}, expected 0 to {}", position, engine_.config().max_positions - 1);
  if (options.positions.empty() && !positions_.empty())
    require(positions_.back() + rows < engine_.config().max_positions, Errc::bad_argument,
            "{} tokens after position {}, but positions end at {}", rows, positions_.back(),
            engine_.config().max_positions - 1);
  options.logits_rows.check(rows);
}

void Session::append(std::span<const std::int32_t> tokens, std::int64_t rows, std::span<const std::int32_t> positions) {
  std::int32_t next = positions_.empty() ? 0 : positions_.back() + 1;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  if (tokens.empty()) tokens_.insert(tokens_.end(), static_cast<std::size_t>(rows), -1);
  positions_.insert(positions_.end(), positions.begin(), positions.end());
  while (positions_.size() < tokens_.size()) positions_.push_back(next++);
}

std::span<const float> Session::forward(std::span<const std::int32_t> tokens, const ForwardOptions& options) {
  const std::int64_t held = length(), rows = new_rows(tokens, options.inputs);
  check(tokens, rows, options);
  std::optional<CallInputs> inputs;
  if (options.inputs.any()) inputs.emplace(engine_, options.inputs, held, rows);
  require(!inputs || !inputs->one_pass() || options.chunk == 0 || options.chunk >= rows, Errc::bad_argument,
          "masks of {} rows are computed in one pass, but the chunk is {}", rows, options.chunk);
  try {
    logits_.resize(static_cast<std::size_t>(options.logits_rows.count(rows) * engine_.config().vocab));
    append(tokens, rows, options.positions);
    compute(held, options, inputs ? &*inputs : nullptr);
  } catch (...) {
    truncate(held);
    throw;
  }
  if (options.inputs.changes_rows()) fixed_ = length();
  return logits_;
}

// Computes all tokens that the cache lacks. Those before `kept` were computed before, and their logits are not wanted.
void Session::compute(std::int64_t kept, const ForwardOptions& options, CallInputs* inputs) {
  require(
      cache_.length() >= fixed_, Errc::unsupported,
      "the session's first {} tokens came with embeddings, masks or experts and must be computed again, which needs "
      "them again: clear the session",
      fixed_);
  const std::int64_t vocab = engine_.config().vocab, rows_of_call = length() - kept;
  std::int64_t done_logits = 0;
  const std::int64_t all_logits = options.logits_rows.count(rows_of_call);
  while (cache_.length() < length()) {
    const std::int64_t begin = cache_.length();
    const bool is_new = begin >= kept, whole = is_new && inputs != nullptr && inputs->one_pass();
    const std::int64_t chunk = whole ? rows_of_call : options.chunk > 0 ? std::min(options.chunk, engine_.chunk()) : engine_.chunk();
    const std::int64_t rows = std::min(chunk, (is_new ? length() : kept) - begin);
    batch_.logits_rows.clear();
    for (std::int64_t next; is_new && done_logits < all_logits; ++done_logits) {
      next = kept + options.logits_rows.row(done_logits, rows_of_call);
      if (next >= begin + rows) break;
      batch_.logits_rows.push_back(static_cast<std::int32_t>(next - begin));
    }
    pass(begin, rows, is_new && inputs != nullptr ? &inputs->of_rows(begin - kept) : nullptr, options.observer);
    if (const std::int64_t count = std::ssize(batch_.logits_rows); count > 0)
      std::memcpy(logits_.data() + (done_logits - count) * vocab,
                  workspace_.data(engine_.program().steps().back().outputs[0]),
                  static_cast<std::size_t>(count * vocab) * sizeof(float));
    if (options.progress) options.progress(std::max<std::int64_t>(0, cache_.length() - kept));
  }
}

// The workspace grows to what a pass needs, and stays.
void Session::make_room(std::int64_t rows, std::int64_t logits_rows) {
  WorkspaceLimits limits = workspace_.limits();
  if (rows <= limits.rows && logits_rows <= limits.logits_rows) return;
  limits.rows = std::max(limits.rows, rows);
  limits.logits_rows = std::max(limits.logits_rows, logits_rows);
  workspace_ = Workspace(engine_.program(), limits);
}

// One pass over tokens [begin, begin + rows); batch_.logits_rows are set.
void Session::pass(std::int64_t begin, std::int64_t rows, const RunInputs* inputs, Observer* observer) {
  engine_.checkpoint().check_sizes();
  make_room(rows, std::ssize(batch_.logits_rows));
  batch_.tokens.assign(tokens_.begin() + begin, tokens_.begin() + begin + rows);
  batch_.positions.assign(positions_.begin() + begin, positions_.begin() + begin + rows);
  batch_.runs.assign(1, {.cache = &cache_, .begin = 0, .end = rows, .inputs = inputs});
  engine_.program().run(batch_, workspace_, engine_.parallel(), observer);
  if (drafter_)
    drafter_->take(begin, batch_.positions,
                   reinterpret_cast<const float*>(workspace_.data(engine_.program().kept()[0])));
}

}  // namespace millrace
