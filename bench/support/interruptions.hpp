// SPDX-License-Identifier: MIT
//
// Interruptions - whether the calling thread lost its CPU to another program.
//
// What a turn itself waits for is no disturbance: a thread that sleeps goes of its own will.
#pragma once

#include <sys/resource.h>

namespace mmkit::bench {

/// How often a turn is run again, hoping for one that is not interrupted.
inline constexpr int kMostTries = 8;

/// How many times the calling thread had to leave its CPU so far.
inline long times_interrupted() noexcept {
  ::rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

}  // namespace mmkit::bench
