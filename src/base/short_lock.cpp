// SPDX-License-Identifier: MIT
#include <mmkit/base/short_lock.hpp>

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cerrno>

namespace mmkit {
namespace {

// What the lock guards lasts about as long as a handful of pauses; 128 outlast several holders.
constexpr unsigned kSpins = 128;
// Then the holder is probably not running: let it.
constexpr unsigned kYields = 16;
// Then it may be of lower priority, and a yield would come straight back: sleep, longer each time.
constexpr long kShortestSleepNs = 20'000;
constexpr long kLongestSleepNs = 1'000'000;

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void ShortLock::wait() noexcept {
  const int saved_errno = errno;
  long sleep_ns = kShortestSleepNs;
  for (unsigned round = 0; !take(); ++round) {
    if (round < kSpins) {
      pause();
    } else if (round < kSpins + kYields) {
      ::sched_yield();
    } else {
      const timespec rest{0, sleep_ns};
      ::nanosleep(&rest, nullptr);
      sleep_ns = std::min(sleep_ns * 2, kLongestSleepNs);
    }
  }
  errno = saved_errno;
}

}  // namespace mmkit
