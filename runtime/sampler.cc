#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "runtime/error.h"
#include "runtime/float_mode.h"

namespace millrace {
namespace {

// e^x for x <= 0 within 1e-10, from sums and products alone: library functions differ between machines.
double exp_of(double x) {
  x = std::max(x, -700.0);
  const double shift = 0x1.8p52;  // adding it rounds to an integer
  const double n = (x * 1.4426950408889634 + shift) - shift;
  const double r = x - n * 0.6931471805599453;
  double p = 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return std::bit_cast<double>(std::bit_cast<std::int64_t>(p) + (static_cast<std::int64_t>(n) << 52));
}

// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::vector<std::int32_t> first_ids(std::int64_t vocab, std::int64_t defined) {
  require(vocab >= 1 && vocab <= std::numeric_limits<std::int32_t>::max(), Errc::bad_argument,
          "vocab is {}, expected 1 to 2^31 - 1", vocab);
  require(defined >= 1 && defined <= vocab, Errc::bad_argument, "defined ids are {}, expected 1 to {}", defined, vocab);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(defined));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  return ids;
}

constexpr auto ranks_before = [](const auto& a, const auto& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
};
constexpr auto ranks_after = [](const auto& a, const auto& b) { return ranks_before(b, a); };

}  // namespace

void validate(const SamplingOptions& options) {
  const auto& [temperature, top_p, min_p, top_k, penalty, seed, biases] = options;
  require(temperature >= 0 && std::isfinite(temperature), Errc::bad_argument,
          "temperature is {}, expected a number from 0", temperature);
  require(top_p >= 0 && top_p <= 1, Errc::bad_argument, "top_p is {}, expected 0 to 1", top_p);
  require(min_p >= 0 && min_p <= 1, Errc::bad_argument, "min_p is {}, expected 0 to 1", min_p);
  require(top_k >= 0, Errc::bad_argument, "top_k is {}, expected a number from 0 (0: no limit)", top_k);
  require(penalty > 0 && std::isfinite(penalty), Errc::bad_argument,
          "repetition_penalty is {}, expected a number above 0 (1: none)", penalty);
  for (const LogitBias& bias : biases)
    require(bias.value < std::numeric_limits<float>::infinity(), Errc::bad_argument,
            "logit_bias of token {} is {}, expected a number or -inf", bias.id, bias.value);
}

Sampler::Sampler(const SamplingOptions& options, std::int64_t vocab, std::int64_t defined)
    : options_(options), vocab_(vocab), state_(options.seed), allowed_(first_ids(vocab, defined)) {
  validate(options);
  auto& biases = options_.logit_bias;
  std::sort(biases.begin(), biases.end(), [](const LogitBias& a, const LogitBias& b) { return a.id < b.id; });
  for (std::size_t i = 0; i < biases.size(); ++i) {
    require(biases[i].id >= 0 && biases[i].id < vocab, Errc::bad_argument,
            "logit_bias of token {}, expected an id from 0 to {}", biases[i].id, vocab - 1);
    require(i == 0 || biases[i].id != biases[i - 1].id, Errc::bad_argument, "logit_bias of token {} is given twice",
            biases[i].id);
  }
  scores_.resize(static_cast<std::size_t>(vocab));
  candidates_.reserve(allowed_.size());
}

Sampler::Sampler(const SamplingOptions& options, std::span<const bool> allowed)
    : Sampler(options, static_cast<std::int64_t>(allowed.size()), static_cast<std::int64_t>(allowed.size())) {
  std::erase_if(allowed_, [&](std::int32_t id) { return !allowed[static_cast<std::size_t>(id)]; });
  require(!allowed_.empty(), Errc::bad_argument, "none of the {} ids of the vocabulary is allowed", vocab_);
}

std::int32_t Sampler::sample(std::span<const float> logits, std::span<const std::int32_t> history,
                             const StepLimits& limits) {
  require(static_cast<std::int64_t>(logits.size()) == vocab_, Errc::bad_argument,
          "the sampler got {} logits, expected {}", logits.size(), vocab_);
  const FloatMode mode;
  gather(adjusted(logits, history, limits));
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), ranks_before)->id;
  keep_top_k();
  weigh();
  if (options_.top_p < 1) keep_top_p();
  std::erase_if(candidates_, [this](const Candidate& candidate) { return candidate.weight < double{options_.min_p}; });
  return draw();
}

std::span<const float> Sampler::adjusted(std::span<const float> logits, std::span<const std::int32_t> history,
                                         const StepLimits& limits) {
  const bool penalty = options_.repetition_penalty != 1 && !history.empty();
  const bool masked = limits.mask != nullptr && *limits.mask;
  if (!penalty && !masked && options_.logit_bias.empty() && limits.forbidden.empty()) return logits;
  std::copy(logits.begin(), logits.end(), scores_.begin());
  for (const LogitBias& bias : options_.logit_bias) scores_[static_cast<std::size_t>(bias.id)] += bias.value;
  if (penalty) penalize(logits, history);
  for (std::int32_t id : limits.forbidden)
    if (id >= 0 && id < vocab_) scores_[static_cast<std::size_t>(id)] = -std::numeric_limits<float>::infinity();
  if (masked) (*limits.mask)(history, scores_);
  return scores_;
}

void Sampler::penalize(std::span<const float> logits, std::span<const std::int32_t> history) {
  for (std::int32_t id : history) {
    require(id >= 0 && id < vocab_, Errc::bad_argument, "token id {} of the history is outside the vocabulary of {}",
            id, vocab_);
    // From the logit before, so that an id which occurs twice is penalized once.
    const auto at = static_cast<std::size_t>(id);
    const float score = logits[at] + bias_of(id);
    scores_[at] = score > 0 ? score / options_.repetition_penalty : score * options_.repetition_penalty;
  }
}

float Sampler::bias_of(std::int32_t id) const noexcept {
  const auto& biases = options_.logit_bias;
  const auto found = std::lower_bound(biases.begin(), biases.end(), id,
                                      [](const LogitBias& bias, std::int32_t value) { return bias.id < value; });
  return found != biases.end() && found->id == id ? found->value : 0.0f;
}

void Sampler::gather(std::span<const float> scores) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  candidates_.clear();
  for (std::int32_t id : allowed_) {
    const float score = scores[static_cast<std::size_t>(id)];
    require(score < infinity, Errc::bad_argument, "the logit of token {} is {}, expected a number", id, score);
    if (score > -infinity) candidates_.push_back({score, id, 0});
  }
  require(!candidates_.empty(), Errc::bad_argument, "the logits of all {} allowed tokens are -inf", allowed_.size());
}

void Sampler::keep_top_k() {
  const auto top_k = static_cast<std::size_t>(options_.top_k);
  if (top_k == 0 || top_k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(), ranks_before);
  candidates_.erase(candidates_.begin() + options_.top_k, candidates_.end());
  // Sums follow the order of the list, which must not be the library's choice.
  std::sort(candidates_.begin(), candidates_.end(), ranks_before);
}

void Sampler::weigh() {
  const float largest = std::min_element(candidates_.begin(), candidates_.end(), ranks_before)->score;
  for (Candidate& candidate : candidates_)
    candidate.weight = exp_of((double{candidate.score} - double{largest}) / double{options_.temperature});
}

void Sampler::keep_top_p() {
  double total = 0, kept = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  // A heap gives the likeliest ones without sorting the vocabulary; each pop puts one before those popped earlier.
  auto first = candidates_.end();
  std::make_heap(candidates_.begin(), candidates_.end(), ranks_after);
  do {
    std::pop_heap(candidates_.begin(), first, ranks_after);
    kept += (--first)->weight;
  } while (first != candidates_.begin() && kept < double{options_.top_p} * total);
  candidates_.erase(candidates_.begin(), first);
}

std::int32_t Sampler::draw() {
  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  const double target = static_cast<double>(next_random(state_) >> 11) * 0x1p-53 * total;
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += candidate.weight;
    if (sum > target) return candidate.id;
  }
  return candidates_.back().id;
}

}  // namespace millrace
