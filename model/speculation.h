// Speculation: several tokens in one pass. The multi-token-prediction layers guess what follows, the main model
// computes the guesses beside the token that is due, and those that equal what the sampler draws come for free.
//
// The tokens are exactly those drawn without it, sampled ones included: row i of a pass has the bits it would have had
// alone (the order contract), and the sampler draws each token from the main model's logits with the random number it
// would have used. A guess is a draft that is certain of its token, q = 1, for which the rule of speculative sampling
// (Leviathan et al. 2023: accept with probability min(1, p / q), else draw from the residual) is just that: draw from p
// and see whether it is the guess. To make this likely, guesses are drawn with the same random numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "model/session.h"
#include "runtime/sampler.h"

namespace millrace {

struct SpeculationStats {
  struct Layer {
    std::int64_t guesses = 0;   // of this layer that the main model computed
    std::int64_t accepted = 0;  // that came true, and all before them in their pass
  };
  std::vector<Layer> layers;
  std::int64_t passes = 0;              // with guesses
  double guess_seconds = 0;             // in the prediction layers
  std::optional<double> saved_seconds;  // estimated: what passes without guesses would have taken, minus what was taken
};

// The passes of one generation; what it learns stays with the session. Used by one thread.
class Speculation {
 public:
  static constexpr int automatic = -1;

  // `guesses` for every pass, 0 for none, or automatic: as many as pay. Guesses are drawn as `sampler` would. The
  // session must outlive it. Throws Error(bad_argument) for more than its engine has prediction layers.
  Speculation(Session& session, int guesses, const Sampler& sampler);

  // Draws the token after `history` from a row of logits, (vocab), with the sampler of the pass, and appends it. False
  // ends the generation.
  using Draw = std::function<bool(std::span<const float> logits)>;

  // One pass over the last token of `history`, which the session lacks, and at most `most` guesses; then draws a token
  // and, as long as it is what was guessed, the next. The session ends up with all of `history` but the last token,
  // also when something throws. options: but for logits_rows. Allocates nothing itself.
  void pass(std::vector<std::int32_t>& history, std::int64_t most, const Sampler& sampler, ForwardOptions options,
            const Draw& draw);

  // The guesses of the pass under way: guess i comes true if draw number i of the pass appends it.
  std::span<const std::int32_t> guesses() const noexcept { return guesses_; }

  const SpeculationStats& stats() const noexcept { return stats_; }

 private:
  int choose(std::int64_t most) const;
  void guess(std::vector<std::int32_t>& history, int count, const Sampler& sampler, Observer* observer);
  void record(int accepted);

  Session& session_;
  Drafter* drafter_;  // null without prediction layers
  int wanted_;
  Sampler guesser_;
  std::vector<std::int32_t> guesses_;
  double seconds_ = 0, catch_up_seconds_ = 0;  // of the last pass
  SpeculationStats stats_;
};

}  // namespace millrace
