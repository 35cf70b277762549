#include "model/session.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "loader/kv_file.h"
#include "model/executor.h"
#include "model/fingerprint.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// Room for so many tokens is taken at once, so that a step of decoding does not grow a list.
constexpr std::int64_t most_reserved = 1 << 20;

}  // namespace

Session::Session(const Engine& engine) : Session(std::make_shared<Executor>(engine)) {}

Session::Session(std::shared_ptr<Executor> executor)
    : engine_(executor->engine()),
      executor_(std::move(executor)),
      cache_(engine_.program().kv_layers(), engine_.kv_dtype(), engine_.context()) {
  reserve_tokens();
  if (!engine_.mtp_programs().empty()) drafter_.emplace(engine_);
}

Session Session::fork() const {
  Session copy(executor_);
  copy.tokens_.assign(tokens_.begin(), tokens_.end());
  copy.positions_.assign(positions_.begin(), positions_.end());
  copy.cache_ = cache_.fork();
  copy.fixed_ = fixed_;
  return copy;
}

void Session::reserve_tokens() {
  const auto room = static_cast<std::size_t>(std::min(engine_.context(), most_reserved));
  tokens_.reserve(room);
  positions_.reserve(room);
}

void Session::truncate(std::int64_t length) {
  require(length >= 0 && length <= this->length(), Errc::bad_argument, "a session of {} tokens cut back to {}",
          this->length(), length);
  tokens_.resize(static_cast<std::size_t>(length));
  positions_.resize(static_cast<std::size_t>(length));
  fixed_ = std::min(fixed_, length);
  cut_cache(std::min(length, cache_.length()));
}

void Session::append(std::span<const std::int32_t> tokens) {
  if (tokens.empty()) return;
  check(tokens, std::ssize(tokens), {});
  add_tokens(tokens, std::ssize(tokens), {});
}

std::int64_t Session::keep_beginning_of(std::span<const std::int32_t> prompt) {
  const auto shared = std::mismatch(tokens_.begin(), tokens_.end(), prompt.begin(), prompt.end());
  const std::int64_t kept = std::min(shared.second - prompt.begin(), std::ssize(prompt) - 1);
  truncate(kept);
  return kept;
}

void Session::add_tokens(std::span<const std::int32_t> tokens, std::int64_t rows,
                         std::span<const std::int32_t> positions) {
  std::int32_t next = positions_.empty() ? 0 : positions_.back() + 1;
  const auto size = static_cast<std::size_t>(length() + rows);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  tokens_.resize(size, -1);
  positions_.insert(positions_.end(), positions.begin(), positions.end());
  while (positions_.size() < size) positions_.push_back(next++);
}

void Session::cut_cache(std::int64_t rows) noexcept {
  if (cache_.can_truncate(rows))
    cache_.truncate(rows);
  else
    cache_.clear();
  if (drafter_) drafter_->truncate(cache_.length());
}

void Session::adopt(std::span<const std::int32_t> tokens, KvCache cache) {
  const auto layers = engine_.program().kv_layers();
  bool same = cache.layers() == layers.size() && cache.dtype() == engine_.kv_dtype();
  for (std::size_t layer = 0; same && layer < layers.size(); ++layer) {
    const LayerKvShape &has = cache.shape(static_cast<int>(layer)), &wants = layers[layer];
    same = has.kv_heads == wants.kv_heads && has.qk_dim == wants.qk_dim && has.v_dim == wants.v_dim &&
           has.window == wants.window;
  }
  require(same && cache.capacity() == engine_.context(), Errc::bad_argument, "a cache that is not of this model");
  require(cache.length() == std::ssize(tokens), Errc::bad_argument, "a cache of {} rows for {} tokens", cache.length(),
          tokens.size());
  for (std::int32_t id : tokens)
    require(id >= 0 && id < engine_.config().vocab, Errc::bad_argument, "token id {}, expected 0 to {}", id,
            engine_.config().vocab - 1);
  std::vector<std::int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  tokens_.assign(tokens.begin(), tokens.end());
  positions_ = std::move(positions);
  fixed_ = 0;
  cache_ = std::move(cache);
  if (drafter_) drafter_->truncate(0);
}

void Session::save(const std::filesystem::path& path) const {
  write_kv_file(path, fingerprint_of(engine_), tokens_, positions_, fixed_, cache_);
}

void Session::load(const std::filesystem::path& path) {
  KvCache cache(engine_.program().kv_layers(), engine_.kv_dtype(), engine_.context());
  const KvFileTokens read = read_kv_file(path, fingerprint_of(engine_), cache);
  const ModelConfig& config = engine_.config();
  for (std::int64_t i = 0; i < std::ssize(read.tokens); ++i) {
    const std::int32_t id = read.tokens[static_cast<std::size_t>(i)];
    require((id >= 0 && id < config.vocab) || (id == -1 && i < read.fixed), Errc::bad_file,
            "{}: token id {}, expected 0 to {}", path.string(), id, config.vocab - 1);
  }
  for (std::int32_t position : read.positions)
    require(position >= 0 && position < config.max_positions, Errc::bad_file, "{}: position {}, expected 0 to {}",
            path.string(), position, config.max_positions - 1);
  tokens_.reserve(read.tokens.size());
  positions_.reserve(read.tokens.size());
  tokens_.assign(read.tokens.begin(), read.tokens.end());
  positions_.assign(read.positions.begin(), read.positions.end());
  fixed_ = read.fixed;
  cache_ = std::move(cache);
  if (drafter_) drafter_->truncate(0);
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

void Session::prepare(std::span<const std::int32_t> tokens, const ForwardOptions& options, std::int64_t chunk) {
  const std::int64_t rows = new_rows(tokens, options.inputs);
  check(tokens, rows, options);
  require(
      (options.use_cache ? cache_.length() : 0) >= fixed_, Errc::unsupported,
      "the session's first {} tokens came with embeddings, masks or experts and must be computed again, which needs "
      "them again: clear the session",
      fixed_);
  Call call;
  call.held = length();
  call.rows = rows;
  call.logits_rows = options.logits_rows;
  if (options.take_logits) call.take_logits = &options.take_logits;
  call.use_cache = options.use_cache;
  call.changes_rows = options.inputs.changes_rows();
  if (options.inputs.any()) call.inputs.emplace(engine_, options.inputs, call.held, rows);
  require(!call.inputs || !call.inputs->one_pass() || chunk == 0 || chunk >= rows, Errc::bad_argument,
          "masks of {} rows are computed in one pass, but the chunk is {}", rows, chunk);
  call_.emplace(std::move(call));
}

void Session::begin(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions) {
  if (!call_->use_cache) cut_cache(0);
  if (cache_.length() > 0 && call_->rows > KvCache::ring_slack && cache_.has_rings()) call_->before = cache_.fork();
  const std::int64_t kept = call_->take_logits == nullptr ? call_->logits_rows.count(call_->rows) : 0;
  logits_.resize(static_cast<std::size_t>(kept * engine_.config().vocab));
  add_tokens(tokens, call_->rows, positions);
}

void Session::commit() noexcept {
  if (call_->changes_rows) fixed_ = length();
  call_.reset();
}

void Session::roll_back() noexcept {
  if (call_->before) {
    tokens_.resize(static_cast<std::size_t>(call_->held));
    positions_.resize(static_cast<std::size_t>(call_->held));
    cache_ = std::move(*call_->before);
    if (drafter_) drafter_->truncate(cache_.length());
  } else {
    truncate(call_->held);
  }
  call_.reset();
}

std::span<const float> Session::forward(std::span<const std::int32_t> tokens, const ForwardOptions& options) {
  SessionStep step{.session = this, .tokens = tokens, .options = options};
  const PassOptions pass{.chunk = std::exchange(step.options.chunk, 0),
                         .observer = std::exchange(step.options.observer, nullptr),
                         .progress = std::exchange(step.options.progress, nullptr)};
  executor_->forward({&step, 1}, pass);
  return logits_;
}

}  // namespace millrace
