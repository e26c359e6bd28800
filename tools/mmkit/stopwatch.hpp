// SPDX-License-Identifier: MIT
//
// Stopwatch - nanoseconds of processor time that this thread has used since the watch was made.
//
// Processor time and not the time of day: page faults count, as they should, but what other
// programs do on the same processors does not. A reading is a system call, some 400 ns: sections
// must be long beside it.
#pragma once

#include <ctime>

namespace mmkit::tool {

class Stopwatch {
 public:
  double elapsed_ns() const noexcept { return now_ns() - start_ns_; }

 private:
  static double now_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
  }

  double start_ns_ = now_ns();
};

}  // namespace mmkit::tool
