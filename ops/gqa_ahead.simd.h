// What gqa_attention will read, asked for line by line while it multiplies what it has read: a burst of requests would
// wait for memory. Included by its kernel source only.
#pragma once

#include "ops/gqa_attention_task.h"
#include "ops/vec.h"

namespace millrace::MILLRACE_ISA {
namespace {

// The keys of a block, its values, and what comes after them.
class Ahead {
 public:
  static constexpr std::int64_t distance = 16384;  // bytes from what is read to what is asked for
  static constexpr std::int64_t near = 2048;       // the same, to what goes on into the first-level cache

  // For keys with numbers in [first, end), of elements of `size` bytes.
  Ahead(const GqaTask& task, std::int64_t first, std::int64_t end, std::int64_t size) noexcept
      : task_(task), first_(first), end_(end), size_(size) {
    std::int64_t skipped = distance;
    while (next() && skipped >= behind_ - at_) skipped -= behind_ - at_, at_ = behind_;
    if (at_ != behind_) at_ += skipped;
  }

  // Where the next `bytes` begin, or null: about so many, since what lies together is not cut.
  const char* take(std::int64_t bytes) noexcept {
    if (at_ >= behind_ && !next()) return nullptr;
    const char* const taken = at_;
    at_ += bytes;
    return taken;
  }
  void take_line() noexcept {
    if (const char* line = take(64); line != nullptr) _mm_prefetch(line, _MM_HINT_T1);
  }

 private:
  enum class Phase { keys, values, later, end };

  bool next() noexcept {
    for (; phase_ < Phase::later; phase_ = phase_ == Phase::keys ? Phase::values : Phase::later, run_ = 0)
      while (run_ < task_.run_count) {
        const GqaRun& run = task_.runs[run_++];
        const std::int64_t first = run.begin > first_ ? run.begin : first_, end = run.end < end_ ? run.end : end_;
        if (first >= end) continue;
        phase_ == Phase::keys ? set_keys(run, first, end) : set_values(run, first, end);
        return true;
      }
    if (phase_ == Phase::end) return false;
    phase_ = Phase::end;
    for (run_ = 0; run_ < task_.run_count; ++run_)
      if (task_.runs[run_].end > end_) {
        const GqaRun& run = task_.runs[run_];
        set_keys(run, run.begin > end_ ? run.begin : end_, run.end);
        return true;
      }
    at_ = static_cast<const char*>(task_.next);
    behind_ = at_ == nullptr ? at_ : at_ + 4 * distance;
    return at_ != nullptr;
  }

  void set_keys(const GqaRun& run, std::int64_t first, std::int64_t end) noexcept {
    const std::int64_t panel = KeyPanels::panel_bytes(task_.qk_dim, size_), place = run.place + first - run.begin;
    at_ = static_cast<const char*>(run.keys) + place / KeyPanels::rows * panel;
    behind_ = static_cast<const char*>(run.keys) + KeyPanels::count(place + end - first) * panel;
  }
  void set_values(const GqaRun& run, std::int64_t first, std::int64_t end) noexcept {
    at_ = static_cast<const char*>(run.values) + (first - run.begin) * task_.v_dim * size_;
    behind_ = at_ + (end - first) * task_.v_dim * size_;
  }

  const GqaTask& task_;
  std::int64_t first_, end_, size_;
  Phase phase_ = Phase::keys;
  std::int64_t run_ = 0;
  const char* at_ = nullptr;
  const char* behind_ = nullptr;
};

}  // namespace
}  // namespace millrace::MILLRACE_ISA
