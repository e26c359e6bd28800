// SPDX-License-Identifier: MIT
//
// ShortLock - a lock for what takes some tens of nanoseconds, whose release is never a system call.
//
// Not for anything longer: a waiter is not woken, it looks again. It spins first, then yields, then
// sleeps a little (so that a holder of lower priority gets to run), each in turn. That is why
// letting go is one plain store: half the cost of a mutex, and legal where no system call may be
// made (Gfp::nowait), which the release of a mutex with a sleeping waiter is not. In a process of
// one thread even the read-modify-write is saved, as the C library does for its own.
//
// Unfair: who lets go and takes it again at once is nearly always first. A thread that does so many
// times in a row calls give_way() in between.
// Invariants: 1 state_ is 1 while somebody holds the lock, else 0
// Locking:    the rank order of lock_rank.hpp, checked at MMKIT_CHECK_LEVEL 1 and above
#pragma once

#include <atomic>
#include <cstdint>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/step.hpp>

#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define MMKIT_HAS_SINGLE_THREADED 1
#else
#define MMKIT_HAS_SINGLE_THREADED 0
#endif

namespace mmkit {

namespace detail {
/// Whether no second thread exists. Starting one orders everything before it.
inline bool single_threaded() noexcept {
  if constexpr (kStepped) return false;
#if MMKIT_HAS_SINGLE_THREADED
  return __libc_single_threaded != 0;
#else
  return false;
#endif
}
}  // namespace detail

/// A lock. Thread safety: safe. Constant-initialised, so usable before main. Not recursive.
class MMKIT_CAPABILITY("mutex") ShortLock {
 public:
  constexpr explicit ShortLock(LockRank rank) noexcept : rank_(rank) {}
  ShortLock(const ShortLock&) = delete;
  ShortLock& operator=(const ShortLock&) = delete;

  /// Takes the lock, waiting for it.
  void lock() noexcept MMKIT_ACQUIRE() {
    if constexpr (kChecksRanks) detail::rank_acquired(rank_, /*ordered=*/true);
    if (!take()) wait();
  }
  /// Takes the lock if nobody holds it; no system call. Returns whether it did.
  [[nodiscard]] bool try_lock() noexcept MMKIT_TRY_ACQUIRE(true) {
    if (!take()) return false;
    if constexpr (kChecksRanks) detail::rank_acquired(rank_, /*ordered=*/false);
    return true;
  }
  /// Lets go; no system call.
  void unlock() noexcept MMKIT_RELEASE() {
    if constexpr (kChecksRanks) detail::rank_released(rank_);
    state_.store(0, std::memory_order_release);  // pairs with the acquire in take()
  }
  /// For fork handlers alone: several locks of one rank, taken in a fixed order.
  void lock_for_fork() noexcept MMKIT_ACQUIRE() {
    if constexpr (kChecksRanks) detail::rank_acquired(rank_, /*ordered=*/false);
    if (!take()) wait();
  }

  /// Lets one of those who wait be next, if there are any. By a thread that does not hold the lock.
  /// Waits for no longer than a holder needs, or a waiter to wake up: about a millisecond.
  void give_way() noexcept MMKIT_EXCLUDES(this) {
    if (wanted_.load(std::memory_order_relaxed) != 0) let_another_in();  // relaxed: a hint
  }

  LockRank rank() const noexcept { return rank_; }

 private:
  static constexpr bool kChecksRanks = MMKIT_CHECK_LEVEL >= 1;

  bool take() noexcept {
    detail::step();
    // Acquire: pairs with the release in unlock(), for the thread that is alone and goes no
    // further.
    if (state_.load(std::memory_order_acquire) != 0) return false;
    if (MMKIT_MUTATE(MMKIT_MUTANT_short_lock_taken_blindly, detail::single_threaded(),
                     (detail::hold_window_open(), true))) {
      state_.store(1, std::memory_order_relaxed);  // nobody to race with
      return true;
    }
    // Acquire: pairs with the release in unlock().
    std::uint32_t expected = 0;
    return state_.compare_exchange_strong(expected, 1, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  void wait() noexcept;
  void let_another_in() noexcept;

  std::atomic<std::uint32_t> state_{0};
  // Hints, for give_way(): whether somebody waits, who says so again each time he looks; and how many
  // have waited and got it.
  std::atomic<std::uint8_t> wanted_{0}, served_{0};
  LockRank rank_;
};

/// Holds a ShortLock for the length of a scope; may let go and take it again within.
class MMKIT_SCOPED_CAPABILITY ShortLockGuard {
 public:
  explicit ShortLockGuard(ShortLock& lock) noexcept MMKIT_ACQUIRE(lock) : lock_(lock) {
    lock_.lock();
  }
  struct Adopt {};
  /// Holds a lock that is taken already.
  ShortLockGuard(ShortLock& lock, Adopt) noexcept MMKIT_REQUIRES(lock) : lock_(lock) {}
  ShortLockGuard(const ShortLockGuard&) = delete;
  ShortLockGuard& operator=(const ShortLockGuard&) = delete;
  ~ShortLockGuard() MMKIT_RELEASE() {
    if (held_) lock_.unlock();
  }
  void unlock() noexcept MMKIT_RELEASE() {
    MMKIT_ASSERT(held_);
    held_ = false;
    lock_.unlock();
  }
  void lock() noexcept MMKIT_ACQUIRE() {
    MMKIT_ASSERT(!held_);
    lock_.lock();
    held_ = true;
  }

 private:
  ShortLock& lock_;
  bool held_ = true;
};

}  // namespace mmkit
