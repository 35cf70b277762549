// Generations with guesses of the prediction layers and without them, in turns. The passes are those of generate():
// guesses, the pass over them, sampling, truncation. Which guesses come true may be made up instead of left to the
// model: the token that is drawn then gives way to the guess, or to another token.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "apps/bench/report.h"
#include "model/engine.h"
#include "model/speculation.h"

namespace millrace {

// Makes up which guesses come true: of the passes with an i-th guess the share accepted[i] takes it and all guesses
// before it. The same every time. Used by one thread.
class MadeUpAcceptance {
 public:
  // Shares from 1 to 0 that do not rise; guesses beyond them never come true. Throws Error(bad_argument) for others.
  explicit MadeUpAcceptance(std::vector<double> accepted);

  // Whether guess `index` of a pass comes true, given that those before it did.
  bool takes(std::size_t index);

 private:
  std::vector<double> accepted_;
  std::mt19937 generator_{3};
};

struct GuessPlan {
  int guesses = Speculation::automatic;  // per pass, as Speculation has them
  std::vector<double> accepted = {};     // as MadeUpAcceptance has them; empty leaves it to the model
  std::int64_t depth = 0;                // tokens held before, made up; cut to what the context holds
  std::int64_t tokens = 64;              // of each of both, per round
};

// Adds a result, "mtp", to the report. Throws Error(bad_argument) where the engine has loaded too few prediction
// layers, for impossible shares and for a context of less than a few tokens.
void measure_guesses(const Engine& engine, const GuessPlan& plan, int rounds,
                     const std::function<void(const std::string& stage)>& progress, BenchReport& report);

// Memory that takes beside a session that is full.
std::uint64_t guessing_bytes(const Engine& headers, const GuessPlan& plan, int rounds);

}  // namespace millrace
