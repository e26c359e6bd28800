// SPDX-License-Identifier: MIT
//
// Sanitized - whether this build has a sanitizer that keeps shadow memory: such a one faults, takes
// addresses and calls the system on its own account, which some tests must not mistake for ours.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MMKIT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define MMKIT_SANITIZED 1
#endif
#endif

namespace mmkit::testing {

// ThreadSanitizer's runtime does not hold the locks of its heap across a fork, and offers no way to them:
// a child that allocates may wait for ever for one that another thread of its parent held.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kHeapSurvivesForks = false;
#else
inline constexpr bool kHeapSurvivesForks = true;
#endif

#ifdef MMKIT_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace mmkit::testing
