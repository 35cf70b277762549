// Sampler: draws the next token from a row of logits. One per sequence, copied when a sequence forks; one thread at a
// time. The same options, seed and logits give the same tokens on every machine: generator and exponential are its own.
//
// In the order of Transformers: logit bias, repetition penalty, forbidden ids, the caller's own mask, temperature,
// top-k, top-p, min-p, draw. Tokens of equal logits rank by id, so top-k keeps exactly k tokens (Transformers also
// keeps the ties of the last).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace millrace {

// Added to the logit of one token; -infinity forbids it.
struct LogitBias {
  std::int32_t id = 0;
  float value = 0;
};

struct SamplingOptions {
  float temperature = 1;         // 0: always the token of the largest logit
  float top_p = 1;               // fewest tokens whose probabilities reach it; 0 keeps one, 1 all
  float min_p = 0;               // least probability, as a fraction of the largest
  int top_k = 0;                 // 0: no limit
  float repetition_penalty = 1;  // divides positive logits of tokens in the history, multiplies negative ones
  std::uint64_t seed = 0;
  std::vector<LogitBias> logit_bias = {};  // each id once
};

// Constrained decoding: lowers or forbids (-infinity) logits of a step. history: the ids so far; logits: (vocab).
using LogitMask = std::function<void(std::span<const std::int32_t> history, std::span<float> logits)>;

// What one step may not draw, beside what the options say. Borrowed for the call.
struct StepLimits {
  std::span<const std::int32_t> forbidden = {};  // ids; those outside the vocabulary are ignored
  const LogitMask* mask = nullptr;               // null or empty = none
};

// Throws Error(bad_argument) naming the option that is out of range.
void validate(const SamplingOptions& options);

class Sampler {
 public:
  // Draws among the first `defined` of `vocab` ids: the vocabulary of a model may be padded beyond its tokenizer's.
  // Throws Error(bad_argument) as validate() does, for an impossible vocabulary and for a bias of an id outside it.
  Sampler(const SamplingOptions& options, std::int64_t vocab, std::int64_t defined);
  // Draws among the ids whose entry is true. allowed: (vocab).
  Sampler(const SamplingOptions& options, std::span<const bool> allowed);

  const SamplingOptions& options() const noexcept { return options_; }

  // From now on draws with the random numbers that `other` would draw with.
  void follow(const Sampler& other) noexcept { state_ = other.state_; }

  // logits: (vocab); history: the ids so far, for the repetition penalty. Allocates nothing, except in the first call
  // of a copy.
  // Throws Error(bad_argument) for another number of logits, a history id outside the vocabulary, a logit of an allowed
  // token that is NaN or +infinity (naming the token), or if all of them are -infinity.
  std::int32_t sample(std::span<const float> logits, std::span<const std::int32_t> history,
                      const StepLimits& limits = {});

 private:
  struct Candidate {
    float score;
    std::int32_t id;
    double weight;  // probability relative to the likeliest token's
  };

  std::span<const float> adjusted(std::span<const float> logits, std::span<const std::int32_t> history,
                                  const StepLimits& limits);
  void penalize(std::span<const float> logits, std::span<const std::int32_t> history);
  float bias_of(std::int32_t id) const noexcept;
  void gather(std::span<const float> scores);
  void keep_top_k();
  void weigh();
  void keep_top_p();
  std::int32_t draw();

  SamplingOptions options_;  // its biases in ascending order of ids
  std::int64_t vocab_;
  std::uint64_t state_;  // of the generator
  std::vector<std::int32_t> allowed_;
  std::vector<float> scores_;          // (vocab), used where logits are adjusted
  std::vector<Candidate> candidates_;  // of the current row
};

}  // namespace millrace
