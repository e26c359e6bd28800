// SPDX-License-Identifier: MIT
//
// Child process - runs a function in a forked child and waits for it.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace mmkit::testing {

/// What run_in_child returns when the child was ended by a signal, plus the signal's number.
inline constexpr int kChildSignalled = 1000;

/// Forks, runs `body` in the child and returns what it returned there (0 to 255), or
/// kChildSignalled
/// + n. The child ends by _exit: no destructors, no second copy of buffered output.
template <class Body>
int run_in_child(Body&& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return -1;
  if (child == 0) ::_exit(static_cast<int>(body()));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : kChildSignalled + WTERMSIG(status);
}

}  // namespace mmkit::testing
