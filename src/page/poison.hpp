// SPDX-License-Identifier: MIT
//
// Poison - tells AddressSanitizer which pages nobody may touch: those that were freed.
//
// Nothing in other builds. Pages that were never handed out are not poisoned: that would take an
// eighth of the reserved range.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define MMKIT_PAGE_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MMKIT_PAGE_POISON 1
#endif
#endif

#ifdef MMKIT_PAGE_POISON
#include <sanitizer/asan_interface.h>
#endif

namespace mmkit::page_detail {

/// Makes every access to the range a reported error.
inline void poison([[maybe_unused]] const std::byte* data,
                   [[maybe_unused]] std::size_t size_bytes) noexcept {
#ifdef MMKIT_PAGE_POISON
  __asan_poison_memory_region(data, size_bytes);
#endif
}

/// Allows access to the range again.
inline void unpoison([[maybe_unused]] const std::byte* data,
                     [[maybe_unused]] std::size_t size_bytes) noexcept {
#ifdef MMKIT_PAGE_POISON
  __asan_unpoison_memory_region(data, size_bytes);
#endif
}

}  // namespace mmkit::page_detail
