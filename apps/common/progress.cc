#include "apps/common/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "apps/common/output.h"

namespace millrace {

ProgressBar::ProgressBar(std::string label, Unit unit, std::chrono::milliseconds delay)
    : label_(std::move(label)),
      unit_(unit),
      enabled_(errors_are_terminal()),
      start_(Clock::now()),
      next_(start_ + delay) {}

ProgressBar::~ProgressBar() {
  clear();
}

void ProgressBar::clear() {
  if (std::exchange(drawn_, false)) print_note("\r\x1b[K");
}

void ProgressBar::update(std::uint64_t done, std::uint64_t total, std::uint64_t bytes_read) {
  if (!enabled_) return;
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  print_note(fmt::format("\r{}\x1b[K", progress_line(label_, done, total, seconds, unit_, bytes_read)));
}

std::string progress_line(const std::string& label, std::uint64_t done, std::uint64_t total, double seconds,
                          ProgressBar::Unit unit, std::uint64_t bytes_read) {
  const auto amount = [unit](double count) {
    return unit == ProgressBar::Unit::bytes ? bytes_text(count) : fmt::format("{:.0f}", count);
  };
  const int width = bytes_read > 0 ? 8 : 24;  // so that a line of a terminal holds all of it
  const double part = total == 0 ? 1 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const int filled = static_cast<int>(part * width);
  std::string line = fmt::format("{} [{:#<{}}{:.<{}}] {:3.0f}%  {} of {}", label, "", filled, "", width - filled,
                                 part * 100, amount(static_cast<double>(done)), amount(static_cast<double>(total)));
  if (seconds <= 0 || done == 0) return line;
  const double rate = static_cast<double>(done) / seconds;
  const auto left = static_cast<std::int64_t>((1 - part) * static_cast<double>(total) / rate + 0.5);
  const std::string name = unit == ProgressBar::Unit::bytes ? "" : " tokens";
  const std::string read = bytes_read > 0 ? fmt::format("  {} read", bytes_text(static_cast<double>(bytes_read))) : "";
  return line + fmt::format("{}  {}/s  {}:{:02} left{}", name, amount(rate), left / 60, left % 60, read);
}

std::string bytes_text(double bytes) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

}  // namespace millrace
