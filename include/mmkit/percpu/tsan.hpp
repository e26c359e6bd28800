// SPDX-License-Identifier: MIT
//
// TSan - tells ThreadSanitizer of the hand-overs that restartable sequences make.
//
// ThreadSanitizer runs a sequence but does not see into it: an object that one thread pushes and
// another pops would look like a race. So whoever lets go of memory through a sequence says
// tsan_release(address) before, and whoever comes by it through one says tsan_acquire(address)
// after. They describe an order that the machine and the kernel give already, and in other builds
// they are nothing.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define MMKIT_PERCPU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MMKIT_PERCPU_TSAN 1
#endif
#endif

#ifdef MMKIT_PERCPU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace mmkit::detail {

#ifdef MMKIT_PERCPU_TSAN
inline void tsan_release(const volatile void* address) noexcept {
  __tsan_release(const_cast<void*>(address));
}
inline void tsan_acquire(const volatile void* address) noexcept {
  __tsan_acquire(const_cast<void*>(address));
}
#else
inline void tsan_release(const volatile void*) noexcept {}
inline void tsan_acquire(const volatile void*) noexcept {}
#endif

}  // namespace mmkit::detail

#undef MMKIT_PERCPU_TSAN
