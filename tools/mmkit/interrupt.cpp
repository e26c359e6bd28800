// SPDX-License-Identifier: MIT
#include "interrupt.hpp"

#include <csignal>

#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

volatile std::sig_atomic_t noted_signal = 0;

void note_signal(int number) {
  noted_signal = number;
}

}  // namespace

void watch_for_interrupts() noexcept {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    if (sigaction(number, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = note_signal;
    sigemptyset(&action.sa_mask);
    // No SA_RESTART: a read that waits (a dead network file system) returns with EINTR and its loop
    // looks at the note.
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(number, &action, nullptr);
  }
}

void stop_if_interrupted() {
  const int number = noted_signal;
  if (number == 0) return;
  throw Problem(static_cast<ExitCode>(128 + number), "interrupted");
}

}  // namespace mmkit::tool
