// PromptProgress: how far the tokens of one call have come, on a line of standard error (ProgressBar), while they are
// computed: tokens done, their rate, the time left, what was read from the disk for them. Observes the passes of a
// session, which must outlive it, from the call on until its tokens are computed. Used by the computing thread.
#pragma once

#include <cstdint>

#include "apps/common/progress.h"
#include "model/session.h"
#include "runtime/observer.h"

namespace millrace {

class PromptProgress final : public Observer {
 public:
  explicit PromptProgress(const Session& session, std::chrono::milliseconds delay = std::chrono::milliseconds(300));

  void after(const Program& program, const Step& step, const StepContext& context) override;

 private:
  std::uint64_t bytes_read() const;

  const Session& session_;
  ProgressBar bar_;
  std::int64_t held_ = 0;    // tokens cached before the call
  std::int64_t cached_ = 0;  // before the pass
  std::uint64_t read_before_;
  bool begun_ = false, finished_ = false;
};

}  // namespace millrace
