// EvalTrace: the step outputs that `eval --trace` asks for, of the main model and of its multi-token-prediction layers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/common/dump.h"
#include "model/call_inputs.h"
#include "model/engine.h"
#include "runtime/step_recorder.h"

namespace millrace {

class EvalTrace {
 public:
  // `engine` must outlive it; `rows` is the length of the prompt. Throws Error(bad_argument) for a pattern that chooses
  // nothing, or only what so short a prompt has no rows of.
  EvalTrace(const Engine& engine, const std::vector<std::string>& patterns, std::int64_t rows);

  // For the pass over the prompt.
  Observer& observer() noexcept { return *main_; }

  // After it: computes what is wanted of the prediction layers and returns everything, in the order of the model.
  // `inputs` are those of the pass.
  std::vector<RecordedValue> finish(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
                                    const ForwardInputs& inputs);

 private:
  const Engine& engine_;
  std::vector<std::vector<ValueId>> chosen_;  // of the main Program, then of each prediction layer's
  bool only_for_mtp_ = false;                 // the last value of the main Program is what prediction layers start from
  std::unique_ptr<StepRecorder> main_;
};

}  // namespace millrace
