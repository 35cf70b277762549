#include "model/loss.h"

#include <algorithm>
#include <cmath>

#include "model/session.h"
#include "runtime/error.h"

namespace millrace {
namespace {

constexpr std::int64_t longest_default_window = 2048;

}  // namespace

double negative_log_likelihood(std::span<const float> logits, std::int32_t label) {
  require(label >= 0 && label < std::ssize(logits), Errc::bad_argument, "label {}, expected 0 to {}", label,
          std::ssize(logits) - 1);
  const double largest = double{*std::max_element(logits.begin(), logits.end())};
  double sum = 0;
  for (float logit : logits) sum += std::exp(double{logit} - largest);
  return std::log(sum) - (double{logits[static_cast<std::size_t>(label)]} - largest);
}

void LossSum::add(double nll) {
  const double difference = nll - mean_;
  mean_ += difference / static_cast<double>(++tokens_);
  squares_ += difference * (nll - mean_);
}

double LossSum::mean() const noexcept {
  return mean_;
}

double LossSum::standard_error() const noexcept {
  if (tokens_ < 2) return 0;
  const auto count = static_cast<double>(tokens_);
  return std::sqrt(squares_ / (count - 1) / count);
}

double LossSum::perplexity() const noexcept {
  return std::exp(mean_);
}

double LossSum::perplexity_error() const noexcept {
  return perplexity() * standard_error();
}

LabelScore::LabelScore(std::span<const std::int32_t> labels, std::int64_t vocab)
    : labels_(labels), vocab_(static_cast<std::size_t>(vocab)) {
  require(!labels.empty() && vocab > 0, Errc::bad_argument, "{} labels of a vocabulary of {}, expected 1 or more",
          labels.size(), vocab);
  loss_.nll.resize(labels.size() - 1);
}

void LabelScore::take(std::span<const float> logits) {
  const std::size_t rows = logits.size() / vocab_;
  require(logits.size() % vocab_ == 0 && rows <= labels_.size() - row_, Errc::bad_argument,
          "{} labels, {} of them scored, and {} more logits of a vocabulary of {}", labels_.size(), row_, logits.size(),
          vocab_);
  for (std::size_t i = 0; i < rows; ++i, ++row_) {
    if (row_ + 1 >= labels_.size() || labels_[row_ + 1] == ignored_label) continue;
    loss_.nll[row_] = negative_log_likelihood(logits.subspan(i * vocab_, vocab_), labels_[row_ + 1]);
    loss_.sum.add(loss_.nll[row_]);
  }
}

LabelLoss loss_of_labels(std::span<const float> logits, std::span<const std::int32_t> labels, std::int64_t vocab) {
  require(!labels.empty() && vocab > 0 && std::ssize(logits) == std::ssize(labels) * vocab, Errc::bad_argument,
          "{} labels for {} logits of a vocabulary of {}, expected one per row", labels.size(), logits.size(), vocab);
  LabelScore score(labels, vocab);
  score.take(logits);
  return score.loss();
}

Perplexity perplexity(const Engine& engine, std::span<const std::int32_t> tokens, const PerplexityOptions& options) {
  const std::int64_t count = std::ssize(tokens), vocab = engine.config().vocab;
  require(count >= 2, Errc::bad_argument, "a perplexity of {} tokens, expected at least 2", count);
  const std::int64_t window = options.window > 0 ? options.window : std::min(engine.context(), longest_default_window);
  const std::int64_t stride = options.stride > 0 ? options.stride : std::max<std::int64_t>(1, window / 2);
  require(options.window >= 0 && window >= 2 && window <= engine.context(), Errc::bad_argument,
          "a window of {} tokens, expected 2 to {} (the context)", window, engine.context());
  require(options.stride >= 0 && stride < window, Errc::bad_argument,
          "a stride of {} tokens, expected 1 to {}, less than the window", stride, window - 1);

  Perplexity result{.loss = {}, .window = window, .stride = stride, .windows = 0};
  const std::int64_t windows = count <= window ? 1 : 1 + (count - window + stride - 1) / stride;
  const std::int64_t total = count + (windows - 1) * (window - stride);
  const auto width = static_cast<std::size_t>(vocab);
  std::int64_t done = 0, predicted = 1;  // the first token is predicted by nothing
  Session session(engine);
  for (std::int64_t first = 0; result.windows < windows; first += stride, ++result.windows) {
    session.clear();
    const std::int64_t end = std::min(count, first + window), rows = end - first;
    const std::int64_t scored = std::max(first, predicted - 1);  // rows before it only give context
    ForwardOptions forward{.logits_rows = end - scored};
    forward.take_logits = [&](std::int64_t row, std::span<const float> logits) {
      for (row += scored + 1; !logits.empty() && row < end; ++row, logits = logits.subspan(width))
        result.loss.add(negative_log_likelihood(logits.first(width), tokens[static_cast<std::size_t>(row)]));
    };
    if (options.progress) forward.progress = [&](std::int64_t rows_done) { options.progress(done + rows_done, total); };
    session.forward(tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)), forward);
    done += rows;
    predicted = end;
  }
  return result;
}

}  // namespace millrace
