// Ctrl-C as a polite request: while an Interrupt lives, the first SIGINT or SIGTERM only raises a flag, so that a
// program can end with what it has; a second one ends the process as usual. One at a time.
#pragma once

#include <csignal>

namespace millrace {

class Interrupt {
 public:
  // The exit code of a program that ended on request, as shells report it.
  static constexpr int exit_code = 130;

  Interrupt() noexcept;
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  static bool requested() noexcept { return signal() != 0; }
  // The signal that came, or 0.
  static int signal() noexcept;

 private:
  struct sigaction previous_interrupt_ {};
  struct sigaction previous_terminate_ {};
};

}  // namespace millrace
