#include "apps/common/interrupt.h"

namespace millrace {
namespace {

volatile std::sig_atomic_t raised = 0;

void raise_flag(int signal) {
  raised = signal;
}

}  // namespace

Interrupt::Interrupt() noexcept {
  raised = 0;
  struct sigaction action {};
  action.sa_handler = raise_flag;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &previous_interrupt_);
  sigaction(SIGTERM, &action, &previous_terminate_);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &previous_interrupt_, nullptr);
  sigaction(SIGTERM, &previous_terminate_, nullptr);
}

int Interrupt::signal() noexcept {
  return raised;
}

}  // namespace millrace
