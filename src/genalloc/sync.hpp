// SPDX-License-Identifier: MIT
//
// Sync - the shared memory that the lock-free core is written against.
//
// The core is a template over this policy and touches what threads share by Sync::Atomic alone. The
// library instantiates it with DirectSync, where an access is the machine's own. Tests instantiate
// it with a policy that does something before each access: yields, stops for ever, counts. So every
// step of every operation is a point where a test can interfere, and none is forgotten.
#pragma once

#include <atomic>
#include <mmkit/base/short_lock.hpp>

namespace mmkit::genalloc {

struct DirectSync {
  template <class T>
  using Atomic = std::atomic<T>;

  /// Whether there is no other thread; signal handlers there may be.
  static bool alone() noexcept { return mmkit::detail::single_threaded(); }
  /// How often to wait for somebody else's next step before making it for him.
  static constexpr unsigned kPatience = 20;
  /// While waiting.
  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
};

}  // namespace mmkit::genalloc
