// SPDX-License-Identifier: MIT
//
// Poison - tells a memory checker which memory nobody may touch: what is free.
//
//   AddressSanitizer   in builds with it
//   valgrind           with MMKIT_VALGRIND_ANNOTATIONS: requests that valgrind sees, and that are
//                      six instructions without effect where it is not
//   otherwise          nothing, and no code
//
// The memory itself is not touched, only the checker's shadow of it.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define MMKIT_POISONS_FOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MMKIT_POISONS_FOR_ASAN 1
#endif
#endif

#ifdef MMKIT_POISONS_FOR_ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef MMKIT_VALGRIND_ANNOTATIONS
#include <valgrind/memcheck.h>
#endif

namespace mmkit::detail {

#if defined(MMKIT_POISONS_FOR_ASAN) || defined(MMKIT_VALGRIND_ANNOTATIONS)
inline constexpr bool kPoisons = true;
#else
inline constexpr bool kPoisons = false;
#endif

/// Makes every access to the range a reported error.
inline void poison([[maybe_unused]] const void* start,
                   [[maybe_unused]] std::size_t size_bytes) noexcept {
#ifdef MMKIT_POISONS_FOR_ASAN
  __asan_poison_memory_region(start, size_bytes);
#endif
#ifdef MMKIT_VALGRIND_ANNOTATIONS
  static_cast<void>(VALGRIND_MAKE_MEM_NOACCESS(start, size_bytes));
#endif
}

/// Allows access to the range again; what is in it counts as written.
inline void unpoison([[maybe_unused]] const void* start,
                     [[maybe_unused]] std::size_t size_bytes) noexcept {
#ifdef MMKIT_POISONS_FOR_ASAN
  __asan_unpoison_memory_region(start, size_bytes);
#endif
#ifdef MMKIT_VALGRIND_ANNOTATIONS
  static_cast<void>(VALGRIND_MAKE_MEM_DEFINED(start, size_bytes));
#endif
}

inline void poison(std::uintptr_t start, std::size_t size_bytes) noexcept {
  poison(reinterpret_cast<const void*>(start), size_bytes);
}
inline void unpoison(std::uintptr_t start, std::size_t size_bytes) noexcept {
  unpoison(reinterpret_cast<const void*>(start), size_bytes);
}

}  // namespace mmkit::detail
