#include "apps/common/prompt_progress.h"

namespace millrace {

PromptProgress::PromptProgress(const Session& session, std::chrono::milliseconds delay)
    : session_(session), bar_("Prompt", ProgressBar::Unit::tokens, delay), read_before_(bytes_read()) {}

std::uint64_t PromptProgress::bytes_read() const {
  const auto stats = session_.engine().expert_stats();
  return stats ? stats->bytes_read : 0;
}

void PromptProgress::after(const Program& program, const Step& step, const StepContext& context) {
  if (finished_ || &program != &session_.engine().program()) return;
  const std::int64_t rows = context.batch.rows();
  const std::int64_t steps = std::ssize(program.steps()), place = &step - program.steps().data() + 1;
  if (place == 1) cached_ = session_.cache().length();  // the last steps may come again when it has grown
  if (!std::exchange(begun_, true)) held_ = cached_;
  if (place == steps && cached_ + rows >= session_.length()) {
    finished_ = true;
    bar_.clear();
    return;
  }
  bar_.update(static_cast<std::uint64_t>(cached_ - held_ + rows * place / steps),
              static_cast<std::uint64_t>(session_.length() - held_), bytes_read() - read_before_);
}

}  // namespace millrace
