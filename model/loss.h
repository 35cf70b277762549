// Loss: how well logits predict given tokens. Everything is summed in double from fp32 logits, in the order of the
// rows. The auxiliary load-balancing loss of training is not offered.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace millrace {

class Engine;

inline constexpr std::int32_t ignored_label = -100;

// -log of the probability that logits (vocab) give `label`: log(sum of e^x) - x[label], stable for any finite logits.
// Throws Error(bad_argument) for a label outside the vocabulary.
double negative_log_likelihood(std::span<const float> logits, std::int32_t label);

// Negative log-likelihoods of tokens, in nats, and their mean with its standard error.
class LossSum {
 public:
  void add(double nll);

  std::int64_t tokens() const noexcept { return tokens_; }
  double mean() const noexcept;            // 0 without tokens
  double standard_error() const noexcept;  // of the mean; 0 below two tokens
  double perplexity() const noexcept;      // e^mean
  double perplexity_error() const noexcept;

 private:
  std::int64_t tokens_ = 0;
  double mean_ = 0, squares_ = 0;  // of the differences to the mean (Welford)
};

struct LabelLoss {
  LossSum sum;              // over the labels that count
  std::vector<double> nll;  // (rows - 1): of label i + 1 by the logits of row i; 0 where the label is ignored
};

// The loss of Transformers: row i predicts labels[i + 1], ignored_label does not count. The logits come a few rows at a
// time, in order.
class LabelScore {
 public:
  // `labels`, one per row, are not copied. Throws Error(bad_argument) for none.
  LabelScore(std::span<const std::int32_t> labels, std::int64_t vocab);
  // Of the next rows, (rows, vocab). Throws Error(bad_argument) for other sizes and labels outside the vocabulary.
  void take(std::span<const float> logits);
  const LabelLoss& loss() const noexcept { return loss_; }

 private:
  std::span<const std::int32_t> labels_;
  std::size_t vocab_, row_ = 0;
  LabelLoss loss_;
};

// The same of all rows at once.
LabelLoss loss_of_labels(std::span<const float> logits, std::span<const std::int32_t> labels, std::int64_t vocab);

struct PerplexityOptions {
  std::int64_t window = 0;  // tokens a prediction may look back on, at most; 0 = the context, at most 2048
  std::int64_t stride = 0;  // how far a window is ahead of the last one; 0 = half of it
  // Called with the tokens computed so far and in all; may throw Error(cancelled).
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

struct Perplexity {
  LossSum loss;
  std::int64_t window = 0, stride = 0, windows = 0;
};

// Each token but the first is predicted once: in the first window that holds it, which begins a multiple of `stride`
// in. Throws Error(bad_argument) for fewer than two tokens and impossible windows.
Perplexity perplexity(const Engine& engine, std::span<const std::int32_t> tokens, const PerplexityOptions& options);

}  // namespace millrace
