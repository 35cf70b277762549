#include "apps/cli/eval_trace.h"

#include <algorithm>

#include "model/mtp_layer.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// A pattern that chooses nothing but values of prediction layers for which the prompt is too short.
void require_rows(const std::vector<const Program*>& programs, const std::string& pattern, std::int64_t rows) {
  const auto chosen = select_values(programs, {pattern});
  const auto first = std::find_if(chosen.begin(), chosen.end(), [](const auto& ids) { return !ids.empty(); });
  const std::int64_t layer = first - chosen.begin() - 1;
  require(first == chosen.end() || first == chosen.begin() || rows >= 2 + layer, Errc::bad_argument,
          "--trace {}: expected a prompt of at least {} tokens, found {}", pattern, 2 + layer, rows);
}

}  // namespace

EvalTrace::EvalTrace(const Engine& engine, const std::vector<std::string>& patterns, std::int64_t rows)
    : engine_(engine) {
  std::vector<const Program*> programs = {&engine.program()};
  for (const Program& program : engine.mtp_programs()) programs.push_back(&program);
  chosen_ = select_values(programs, patterns);
  for (const std::string& pattern : patterns) require_rows(programs, pattern, rows);
  std::vector<ValueId>& main = chosen_[0];
  const bool mtp = std::any_of(chosen_.begin() + 1, chosen_.end(), [](const auto& ids) { return !ids.empty(); });
  if (mtp) {
    const ValueId hidden = engine.program().kept()[0];
    only_for_mtp_ = std::find(main.begin(), main.end(), hidden) == main.end();
    if (only_for_mtp_) main.push_back(hidden);
  }
  main_ = std::make_unique<StepRecorder>(engine.program(), main, rows);
}

std::vector<RecordedValue> EvalTrace::finish(std::span<const std::int32_t> tokens,
                                             std::span<const std::int32_t> positions, const ForwardInputs& inputs) {
  std::vector<RecordedValue> traced(main_->values().begin(), main_->values().end());
  if (engine_.mtp_programs().empty()) return traced;  // then nothing need be kept for them
  const std::string& name = engine_.program().value(engine_.program().kept()[0]).name;
  const auto found = std::find_if(traced.begin(), traced.end(), [&](const RecordedValue& t) { return t.name == name; });
  RecordedValue hidden;
  if (found != traced.end()) hidden = *found;
  if (only_for_mtp_) traced.pop_back();
  const std::span<const float> states(reinterpret_cast<const float*>(hidden.data.data()),
                                      hidden.data.size() / sizeof(float));
  for (std::size_t index = 0; index < engine_.mtp_programs().size(); ++index) {
    if (chosen_[1 + index].empty() || tokens.size() < 2 + index) continue;  // no row has the token it needs
    StepRecorder observer(engine_.mtp_programs()[index], chosen_[1 + index], std::ssize(tokens));
    mtp_logits(engine_, static_cast<int>(index), tokens, positions, states, &observer, inputs);
    traced.insert(traced.end(), observer.values().begin(), observer.values().end());
  }
  return traced;
}

}  // namespace millrace
