#include "apps/common/sampling_flags.h"

#include <random>

#include "apps/common/input.h"
#include "model/generate.h"
#include "runtime/error.h"

namespace millrace {
namespace {

std::string check_logit_bias(const std::string& text) {
  try {
    parse_logit_bias(text);
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

// CLI11 would let a negative number wrap around.
std::string check_seed(const std::string& text) {
  return text.starts_with('-') ? "'" + text + "', expected a whole number from 0" : "";
}

}  // namespace

void SamplingFlags::add_to(CLI::App& app) {
  const std::string group = "Sampling (defaults: the model's generation_config.json)";
  app.add_option("--temperature", temperature, "0 always takes the likeliest token")
      ->option_text("X")
      ->check(CLI::Range(0.0, 1000.0))
      ->group(group);
  app.add_option("--top-k", top_k, "draw among the K likeliest tokens; 0: all")
      ->option_text("K")
      ->check(CLI::Range(0, 1 << 30))
      ->group(group);
  app.add_option("--top-p", top_p, "draw among the likeliest tokens that reach probability P")
      ->option_text("P")
      ->check(CLI::Range(0.0, 1.0))
      ->group(group);
  app.add_option("--min-p", min_p, "draw among tokens at least P times as likely as the likeliest")
      ->option_text("P")
      ->check(CLI::Range(0.0, 1.0))
      ->group(group);
  app.add_option("--repetition-penalty", repetition_penalty, "above 1 avoids tokens already there")
      ->option_text("X")
      ->check(CLI::Range(0.001, 1000.0))
      ->group(group);
  app.add_option("--logit-bias", biases, "add V to the logit of token ID; -inf forbids it; may be repeated")
      ->option_text("ID=V")
      ->allow_extra_args(false)
      ->check(check_logit_bias)
      ->group(group);
  app.add_option("--seed", seed, "the same seed draws the same tokens; default: random")
      ->option_text("N")
      ->check(check_seed)
      ->group(group);
}

SamplingOptions SamplingFlags::options(const Engine& engine) const {
  SamplingOptions sampling = default_sampling(engine);
  sampling.temperature = temperature.value_or(sampling.temperature);
  sampling.top_p = top_p.value_or(sampling.top_p);
  sampling.min_p = min_p.value_or(sampling.min_p);
  sampling.top_k = top_k.value_or(sampling.top_k);
  sampling.repetition_penalty = repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.seed = seed ? *seed : std::random_device()();
  for (const std::string& bias : biases) sampling.logit_bias.push_back(parse_logit_bias(bias));
  return sampling;
}

}  // namespace millrace
