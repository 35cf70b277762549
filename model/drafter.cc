#include "model/drafter.h"

#include <algorithm>

#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::int64_t widest_window = 512;  // rows that are kept of a layer without a window, or with a wider one
constexpr std::int64_t rows_per_pass = 32;   // of a layer that catches up: bounds its working memory

std::int64_t rows_kept(const ModelConfig& config) {
  const std::int64_t window = config.mtp_layer.window;
  return window > 0 ? std::min(window, widest_window) : widest_window;
}

}  // namespace

LastRows::LastRows(std::int64_t capacity, std::int64_t width)
    : capacity_(capacity), width_(width), values_(static_cast<std::size_t>(capacity * width)) {}

void LastRows::append(std::int64_t first, std::int64_t rows, const float* values) noexcept {
  if (first != end_) begin_ = first;
  end_ = first + rows;
  begin_ = std::max(begin_, end_ - capacity_);
  for (std::int64_t row = std::max(first, begin_); row < end_; ++row)
    std::copy_n(values + (row - first) * width_, width_, values_.data() + row % capacity_ * width_);
}

void LastRows::truncate(std::int64_t rows) noexcept {
  end_ = std::min(end_, rows);
  begin_ = std::min(begin_, end_);
}

void LastRows::copy(std::int64_t first, std::int64_t rows, float* target) const noexcept {
  for (std::int64_t row = first; row < first + rows; ++row)
    target = std::copy_n(values_.data() + row % capacity_ * width_, width_, target);
}

Drafter::Drafter(const Engine& engine) : wiring_(engine.mtp_wiring()), window_(rows_kept(engine.config())) {
  const auto layers = engine.draft_programs().size();
  const std::int64_t hidden = engine.config().hidden;
  // Rejected rows come and go behind the window.
  const std::int64_t capacity = window_ + KvCache::ring_slack;
  positions_.resize(static_cast<std::size_t>(capacity));
  batch_positions_.reserve(static_cast<std::size_t>(rows_per_pass));
  guessed_.reserve(layers);
  layers_.reserve(layers);
  states_.emplace_back(capacity, hidden);
  for (const Program& program : engine.draft_programs()) {
    layers_.push_back({.layer = MtpLayer(engine, program, rows_per_pass, 1)});
    if (wiring_ == MtpWiring::chained) states_.emplace_back(capacity, hidden);
  }
}

std::uint64_t Drafter::bytes_for(std::span<const Program> programs, const ModelConfig& config, MtpWiring wiring,
                                 Dtype kv_dtype, std::int64_t context, int threads) {
  const std::int64_t rows = rows_kept(config) + KvCache::ring_slack;
  const std::uint64_t states = wiring == MtpWiring::chained ? 1 + programs.size() : 1;
  std::uint64_t bytes = states * sizeof(float) * static_cast<std::uint64_t>(rows * config.hidden);
  for (const Program& program : programs)
    bytes += Workspace::bytes_for(program, {.rows = rows_per_pass, .logits_rows = 1, .threads = threads}) +
             KvCache::bytes_for(program.kv_layers(), kv_dtype, std::min(context, rows));
  return bytes;
}

void Drafter::take(std::int64_t first, std::span<const std::int32_t> positions, const float* hidden) noexcept {
  if (first < main().end()) truncate(first);
  states_.front().append(first, std::ssize(positions), hidden);
  for (std::int64_t row = std::max(first, main().begin()); row < main().end(); ++row)
    positions_[static_cast<std::size_t>(row % std::ssize(positions_))] =
        positions[static_cast<std::size_t>(row - first)];
}

// Layer `index` forgets the rows from `rows` on.
void Drafter::cut(int index, std::int64_t rows) {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  if (layer.next() <= rows) return;
  layer.layer.truncate(rows - layer.base);
  if (wiring_ == MtpWiring::chained) states_[static_cast<std::size_t>(index) + 1].truncate(layer.next());
}

void Drafter::truncate(std::int64_t rows) {
  states_.front().truncate(rows);
  // Row t of layer k has seen token t + 1 + k.
  for (int index = 0; index < layers(); ++index) cut(index, rows - 1 - index);
  if (rows < known_) guessed_.clear();
  known_ = std::min(known_, rows);
}

// Forgets the rows of layers that were told a guess which did not come true.
void Drafter::keep_true_rows(std::span<const std::int32_t> tokens) {
  const auto later = tokens.subspan(static_cast<std::size_t>(known_));
  const auto [wrong, other] = std::mismatch(guessed_.begin(), guessed_.end(), later.begin(), later.end());
  const std::int64_t right = known_ + (wrong - guessed_.begin());
  for (int index = 0; index < layers(); ++index) cut(index, right - 1 - index);
  known_ = std::ssize(tokens);
  guessed_.clear();
}

void Drafter::catch_up(int layers, std::span<const std::int32_t> tokens, Observer* observer) {
  keep_true_rows(tokens);
  for (int index = 0; index < layers; ++index) {
    // All rows whose token is known, but for the last one of the sequence, which guess() computes.
    const std::int64_t end = std::min(main().end() - 1, main().end() - index);
    if (end - layers_[static_cast<std::size_t>(index)].next() > 2 * this->layers()) feed(index, end, tokens, observer);
  }
}

std::span<const float> Drafter::guess(int index, std::span<const std::int32_t> tokens, Observer* observer) {
  require(index >= 0 && index < layers(), Errc::bad_argument, "a guess of layer {}, but {} are loaded", index,
          layers());
  require(ready() && std::ssize(tokens) == main().end() + 1 + index, Errc::bad_argument,
          "a guess of layer {} after {} tokens, but the model computed {}", index, tokens.size(), main().end());
  if (index == 0)
    keep_true_rows(tokens);
  else
    guessed_.push_back(tokens.back());
  cut(index, main().end() - 1);  // the last row is computed even if it was before
  return feed(index, main().end(), tokens, observer);
}

// Shows the layer the rows before `end` that it lacks. Returns the logits of the last.
std::span<const float> Drafter::feed(int index, std::int64_t end, std::span<const std::int32_t> tokens,
                                     Observer* observer) {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  const LastRows& states = source(index);
  const std::int64_t first = std::max(main().end() - window_, states.begin());
  if (layer.next() < first || layer.layer.length() == 0) {
    layer.layer.clear();
    layer.base = first;
  }
  std::span<const float> logits;
  for (std::int64_t row = layer.next(); row < end; row = layer.next()) {
    const std::int64_t rows = std::min(end - row, layer.layer.max_rows());
    states.copy(row, rows, layer.layer.hidden());
    batch_positions_.clear();
    for (std::int64_t r = row; r < row + rows; ++r)
      batch_positions_.push_back(positions_[static_cast<std::size_t>(r % std::ssize(positions_))]);
    const auto seen = tokens.subspan(static_cast<std::size_t>(row + 1 + index), static_cast<std::size_t>(rows));
    try {
      logits = layer.layer.forward(seen, batch_positions_, row + rows == end ? 1 : 0, observer);
    } catch (...) {
      layer.layer.clear();
      throw;
    }
    if (wiring_ == MtpWiring::chained)
      states_[static_cast<std::size_t>(index) + 1].append(row, rows, layer.layer.output());
  }
  return logits;
}

}  // namespace millrace
