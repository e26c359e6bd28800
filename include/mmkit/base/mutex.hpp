// SPDX-License-Identifier: MIT
//
// Mutex - a pthread mutex that clang checks and that knows its rank.
//
// Adaptive: a waiter spins a little before it sleeps, because what our locks guard takes some tens
// of nanoseconds and a sleep some microseconds. Not recursive. Forty-eight bytes.
// Locking: the rank order of lock_rank.hpp, checked at MMKIT_CHECK_LEVEL 1 and above.
#pragma once

#include <pthread.h>

#include <mmkit/base/check.hpp>
#include <mmkit/base/lock_rank.hpp>
#include <mmkit/base/thread_annotations.hpp>

namespace mmkit {

namespace detail {
// A stack of the ranks this thread holds. Called at check level 1 and above, the same level in the
// library and in what includes this header.
void rank_acquired(LockRank rank, bool ordered) noexcept;
void rank_released(LockRank rank) noexcept;
}  // namespace detail

/// A lock. Thread safety: safe. Constant-initialised, so usable before main.
class MMKIT_CAPABILITY("mutex") Mutex {
 public:
  constexpr explicit Mutex(LockRank rank) noexcept : rank_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  /// Takes the lock, waiting for it. Taking it twice is misuse.
  void lock() noexcept MMKIT_ACQUIRE() {
    if constexpr (kChecksRanks) detail::rank_acquired(rank_, /*ordered=*/true);
    ::pthread_mutex_lock(&mutex_);
  }
  /// Takes the lock if nobody holds it; no system call. Returns whether it did.
  [[nodiscard]] bool try_lock() noexcept MMKIT_TRY_ACQUIRE(true) {
    if (::pthread_mutex_trylock(&mutex_) != 0) return false;
    // No order to keep: a try cannot wait, so it cannot deadlock.
    if constexpr (kChecksRanks) detail::rank_acquired(rank_, /*ordered=*/false);
    return true;
  }
  void unlock() noexcept MMKIT_RELEASE() {
    if constexpr (kChecksRanks) detail::rank_released(rank_);
    ::pthread_mutex_unlock(&mutex_);
  }

  /// For fork handlers alone: several locks of one rank, taken in a fixed order.
  void lock_for_fork() noexcept MMKIT_ACQUIRE() {
    if constexpr (kChecksRanks) detail::rank_acquired(rank_, /*ordered=*/false);
    ::pthread_mutex_lock(&mutex_);
  }

  LockRank rank() const noexcept { return rank_; }
  /// For condition variables.
  pthread_mutex_t* native_handle() noexcept { return &mutex_; }

 private:
  static constexpr bool kChecksRanks = MMKIT_CHECK_LEVEL >= 1;

  pthread_mutex_t mutex_ = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
  LockRank rank_;
};

/// Holds a Mutex for the length of a scope; may let go and take it again within.
class MMKIT_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) noexcept MMKIT_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() MMKIT_RELEASE() {
    if (held_) mutex_.unlock();
  }
  void unlock() noexcept MMKIT_RELEASE() {
    MMKIT_ASSERT(held_);
    held_ = false;
    mutex_.unlock();
  }
  void lock() noexcept MMKIT_ACQUIRE() {
    MMKIT_ASSERT(!held_);
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

/// Waits for something another thread does under the same Mutex. Thread safety: safe.
class CondVar {
 public:
  constexpr CondVar() noexcept = default;
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  /// Lets go of `mutex`, sleeps, takes it again. May wake without a reason: call it in a loop.
  void wait(Mutex& mutex) noexcept MMKIT_REQUIRES(mutex) {
    ::pthread_cond_wait(&condition_, mutex.native_handle());
  }
  void notify_all() noexcept { ::pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};

}  // namespace mmkit
