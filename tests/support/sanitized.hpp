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

#ifdef MMKIT_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace mmkit::testing
