// SPDX-License-Identifier: MIT
//
// Sync - the shared memory that the lock-free core is written against.
//
// The core is a template over this policy and touches what threads share by Sync::Atomic alone. The
// library instantiates it with DirectSync, where an access is the machine's own. Tests instantiate
// it with a policy that does something before each access: yields, stops for ever, counts. So every
// step of every operation is a point where a test can interfere, and none is forgotten.
//
// In a process of one thread an exchange has to be whole before signal handlers alone. One
// instruction is, without the lock on the bus that makes it whole before other processors, and costs
// a third. The C library saves its own locks in the same way, by the same sign.
#pragma once

#include <atomic>
#include <cstdint>
#include <mmkit/base/cpu.hpp>
#include <mmkit/base/short_lock.hpp>

#if defined(__SANITIZE_THREAD__)
#define MMKIT_GENALLOC_PLAIN_ATOMICS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MMKIT_GENALLOC_PLAIN_ATOMICS 1
#endif
#endif

namespace mmkit::genalloc {

/// std::atomic, but for exchanges of a process that has one thread.
template <class T>
class DirectAtomic {
 public:
  DirectAtomic() noexcept = default;
  constexpr DirectAtomic(T value) noexcept : value_(value) {}  // NOLINT: as std::atomic

  T load(std::memory_order order) const noexcept { return value_.load(order); }
  void store(T value, std::memory_order order) noexcept { value_.store(value, order); }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) noexcept {
#if defined(__x86_64__) && !defined(MMKIT_GENALLOC_PLAIN_ATOMICS)
    if (mmkit::detail::single_threaded()) {
      bool done;
      asm volatile("cmpxchg %[desired], %[cell]"
                   : "=@ccz"(done), [cell] "+m"(value_), "+a"(expected)
                   : [desired] "r"(desired)
                   : "memory");
      return done;
    }
#endif
    return value_.compare_exchange_strong(expected, desired, success, failure);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                             std::memory_order failure) noexcept {
    return compare_exchange_strong(expected, desired, success, failure);
  }

 private:
  std::atomic<T> value_{};
};

struct DirectSync {
  template <class T>
  using Atomic = DirectAtomic<T>;

  /// Whether atomics are the machine's words, which vector instructions may load by eights of bytes.
#if defined(__SSE2__) && defined(__x86_64__) && !defined(MMKIT_GENALLOC_PLAIN_ATOMICS)
  static constexpr bool kVectorLoads = true;
#else
  static constexpr bool kVectorLoads = false;
#endif
  /// Where this thread runs: a hint.
  static unsigned cpu() noexcept {
    return current_cpu();
  }
  /// Whether there is no other thread; signal handlers there may be.
  static bool alone() noexcept {
    return mmkit::detail::single_threaded();
  }
  /// How often to wait for somebody else's next step before making it for him.
  static constexpr unsigned kPatience = 20;
  /// How many lost exchanges before an operation asks the others to make its own.
  static constexpr std::uint64_t kLostBeforeAsking = 8;
  /// While waiting.
  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
};

}  // namespace mmkit::genalloc
