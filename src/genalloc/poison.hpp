// SPDX-License-Identifier: MIT
//
// Poison - what is free in a pool of this process's own memory is out of bounds for everybody, when
// AddressSanitizer is there to say so; nothing otherwise.
//
// The memory itself is not touched, only the sanitizer's shadow of it.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define MMKIT_GENALLOC_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MMKIT_GENALLOC_POISONS 1
#endif
#endif

#ifdef MMKIT_GENALLOC_POISONS
#include <sanitizer/asan_interface.h>
#endif

namespace mmkit::genalloc {

#ifdef MMKIT_GENALLOC_POISONS
inline constexpr bool kPoisons = true;
#else
inline constexpr bool kPoisons = false;
#endif

inline void poison([[maybe_unused]] std::uintptr_t start,
                   [[maybe_unused]] std::size_t size_bytes) noexcept {
#ifdef MMKIT_GENALLOC_POISONS
  __asan_poison_memory_region(reinterpret_cast<const void*>(start), size_bytes);
#endif
}
inline void unpoison([[maybe_unused]] std::uintptr_t start,
                     [[maybe_unused]] std::size_t size_bytes) noexcept {
#ifdef MMKIT_GENALLOC_POISONS
  __asan_unpoison_memory_region(reinterpret_cast<const void*>(start), size_bytes);
#endif
}

}  // namespace mmkit::genalloc
