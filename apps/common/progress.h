// ProgressBar: one line on standard error that shows how far long work has come, drawn only if standard error is a
// terminal and the work takes longer than a moment; it erases itself at the end. Used by one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace millrace {

class ProgressBar {
 public:
  enum class Unit { bytes, tokens };

  // Draws nothing before the delay is over.
  explicit ProgressBar(std::string label, Unit unit = Unit::bytes,
                       std::chrono::milliseconds delay = std::chrono::milliseconds(300));
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Units done so far, of `total`, and what was read from the disk for them if anything was; drawn at most ten times a
  // second.
  void update(std::uint64_t done, std::uint64_t total, std::uint64_t bytes_read = 0);
  // Erases the line, if it was drawn.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  Unit unit_;
  bool enabled_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point next_;
};

// The line itself: "Loading [#####.....]  50%  1.0 of 2.0 GiB  1.0 GiB/s  0:01 left"; with bytes that were read
// "Prompt [####....]  50%  512 of 1024 tokens  20/s  0:26 left  3.1 GiB read".
std::string progress_line(const std::string& label, std::uint64_t done, std::uint64_t total, double seconds,
                          ProgressBar::Unit unit = ProgressBar::Unit::bytes, std::uint64_t bytes_read = 0);

// "512 B", "1.5 KiB", "96.0 GiB"
std::string bytes_text(double bytes);

}  // namespace millrace
