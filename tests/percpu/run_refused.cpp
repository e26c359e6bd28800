// SPDX-License-Identifier: MIT
//
// run_refused - runs a program in a world where something is refused or narrow.
//
//   run_refused [rseq=ERRNO] [membarrier=ERRNO] [highest_cpu] -- PROGRAM ARGUMENT...
//
// ERRNO is ENOSYS (a kernel without the call) or EPERM (a filter against it). `highest_cpu` leaves
// the program one CPU, the last of those allowed.
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <string_view>

#include "support/refused_call.hpp"

namespace {

bool take_highest_cpu() {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  std::size_t highest = CPU_SETSIZE - 1;
  while (highest > 0 && !CPU_ISSET(highest, &allowed)) --highest;
  CPU_ZERO(&allowed);
  CPU_SET(highest, &allowed);
  return ::sched_setaffinity(0, sizeof allowed, &allowed) == 0;
}

bool apply(std::string_view word) {
  using mmkit::testing::refuse_call;
  if (word == "highest_cpu") return take_highest_cpu();
  const std::size_t equals = word.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view call = word.substr(0, equals);
  const std::string_view error = word.substr(equals + 1);
  const int number = error == "ENOSYS" ? ENOSYS : error == "EPERM" ? EPERM : 0;
  if (number == 0) return false;
  if (call == "rseq") return refuse_call(SYS_rseq, number);
  if (call == "membarrier") return refuse_call(SYS_membarrier, number);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  int at = 1;
  for (; at < argc && std::string_view(argv[at]) != "--"; ++at) {
    if (!apply(argv[at])) {
      std::fprintf(stderr, "run_refused: cannot do '%s'\n", argv[at]);
      return 125;
    }
  }
  if (at + 1 >= argc) {
    std::fprintf(stderr, "run_refused: no program\n");
    return 125;
  }
  ::execv(argv[at + 1], argv + at + 1);
  std::perror(argv[at + 1]);
  return 127;
}
