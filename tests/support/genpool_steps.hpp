// SPDX-License-Identifier: MIT
//
// SteppedSync - the core's shared memory with a hook before every access.
//
// PoolCore<SteppedSync> is the code that the library ships, instantiated with atomics that first
// call the hook of the running thread, if it has one. A hook may yield, switch to another fiber, or
// never come back. So "at every step" is meant literally.
#pragma once

#include <atomic>
#include <cstdint>

#include "support/step_hook.hpp"

namespace mmkit::testing {

struct SteppedSync {
  template <class T>
  class Atomic {
   public:
    Atomic() noexcept = default;
    constexpr Atomic(T value) noexcept : value_(value) {}  // NOLINT: as std::atomic

    T load(std::memory_order order) const noexcept {
      one_step();
      return value_.load(order);
    }
    void store(T value, std::memory_order order) noexcept {
      one_step();
      value_.store(value, order);
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                                 std::memory_order failure) noexcept {
      one_step();
      return value_.compare_exchange_strong(expected, desired, success, failure);
    }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) noexcept {
      return compare_exchange_strong(expected, desired, success, failure);
    }

   private:
    std::atomic<T> value_{};
  };

  static unsigned cpu() noexcept { return 0; }
  static bool alone() noexcept { return false; }
  static constexpr bool kVectorLoads = false;
  static constexpr std::uint64_t kLostBeforeAsking = 2;
  static constexpr unsigned kPatience = 1;  // so that others' steps are made often
  static void pause() noexcept { one_step(); }
};

/// The same, and every take asks for itself to be made by whoever comes.
struct AskingSync : SteppedSync {
  static constexpr std::uint64_t kLostBeforeAsking = 0;
};

}  // namespace mmkit::testing
