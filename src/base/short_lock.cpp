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

// One round of waiting after another: each gives way to more.
class Patience {
 public:
  Patience() noexcept : errno_(errno) {}
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;
  ~Patience() { errno = errno_; }

  void rest() noexcept {
    if constexpr (detail::kStepped) return detail::step_while_waiting();
    if (round_ < kSpins) {
      pause();
    } else if (round_ < kSpins + kYields) {
      ::sched_yield();
    } else {
      const timespec rest{0, sleep_ns_};
      ::nanosleep(&rest, nullptr);
      sleep_ns_ = std::min(sleep_ns_ * 2, kLongestSleepNs);
    }
    ++round_;
  }
  /// Whether everybody else who waits must have looked meanwhile.
  bool is_over() const noexcept { return sleep_ns_ == kLongestSleepNs; }

 private:
  const int errno_;
  unsigned round_ = 0;
  long sleep_ns_ = kShortestSleepNs;
};

}  // namespace

void ShortLock::wait() noexcept {
  for (Patience patience; !take(); patience.rest()) {
    // Written only when it changes: the holder's release writes the same line.
    if (wanted_.load(std::memory_order_relaxed) == 0) wanted_.store(1, std::memory_order_relaxed);
  }
  wanted_.store(0, std::memory_order_relaxed);
  served_.fetch_add(1, std::memory_order_relaxed);
}

// Bounded: who wanted it may be a thread of the parent of this process.
void ShortLock::let_another_in() noexcept {
  MMKIT_MUTATE(MMKIT_MUTANT_short_lock_gives_no_way, , return;)
  const std::uint8_t served = served_.load(std::memory_order_relaxed);
  for (Patience patience; wanted_.load(std::memory_order_relaxed) != 0 &&
                          served_.load(std::memory_order_relaxed) == served;
       patience.rest()) {
    if (patience.is_over()) {
      wanted_.store(0, std::memory_order_relaxed);
      return;
    }
  }
}

}  // namespace mmkit
