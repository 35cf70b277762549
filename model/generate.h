// The generation loop: computes a prompt, then draws token after token until something ends it. Free of state beside
// the session it is given; runs on the session's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/session.h"
#include "model/speculation.h"
#include "runtime/sampler.h"

namespace millrace {

struct GenerateOptions {
  std::int64_t max_tokens = 256;  // fewer when the context is full
  SamplingOptions sampling;
  std::vector<std::string> stop;  // texts that end the generation; they are not part of it
  bool use_cache = true;          // false computes all tokens again at every step, and guesses none
  bool ignore_eos = false;        // draw on after the model's own stop tokens
  std::int64_t min_tokens = 0;    // the model's stop tokens are not drawn before so many others
  LogitMask mask;                 // constrained decoding, asked at every step; may be empty
  // Tokens guessed per pass with the prediction layers the engine has loaded; 0 = none. Changes the time, not the
  // tokens.
  int guesses = Speculation::automatic;
  Observer* observer = nullptr;       // sees every pass, those of prediction layers included; may be null
  std::function<bool()> interrupted;  // asked before every step of a pass: true ends the generation; may be empty
};

enum class FinishReason {
  stop,         // the model drew one of its stop tokens
  length,       // max_tokens or a full context
  stop_string,  // one of GenerateOptions::stop
  interrupted,  // the caller asked
};
std::string_view name_of(FinishReason reason) noexcept;

struct GenerateTimings {
  double prompt_seconds = 0;    // the pass over the prompt
  double generate_seconds = 0;  // everything after it
  std::int64_t passes = 0;      // in generate_seconds
};

struct GenerateResult {
  std::vector<std::int32_t> ids;  // every token drawn, a final stop token included
  std::string text;               // what on_text received, joined
  FinishReason finish_reason = FinishReason::length;
  GenerateTimings timings;
  SpeculationStats speculation;
};

// The defaults a folder's generation_config.json asks for; the seed is 0.
SamplingOptions default_sampling(const Engine& engine);

// Continues `prompt`, which follows what the session holds. `on_text` receives valid UTF-8 as it becomes final, without
// special tokens; false ends the generation. It may be empty, and is not called for a folder without a tokenizer. Ids
// the tokenizer does not define are never drawn. Afterwards the session holds the prompt and all drawn tokens but the
// last; after an interruption inside a pass what it held before that pass. With max_tokens 0 nothing is computed.
// Throws Error: bad_argument for an empty prompt, one that does not fit the context, or impossible options; it also
// carries through what a mask throws, and complains of one that leaves no token to draw.
GenerateResult generate(Session& session, std::span<const std::int32_t> prompt, const GenerateOptions& options,
                        const std::function<bool(std::string_view text)>& on_text);

}  // namespace millrace
