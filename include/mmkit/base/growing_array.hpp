// SPDX-License-Identifier: MIT
//
// GrowingArray - an array that grows at its end; elements never move, readers take no lock.
//
//   segment 0: elements 0 .. 63         Each is twice as long as the one before; memory of its unused
//   segment 1: elements 64 .. 191       end is never touched. With 64 added to an index its highest
//   segment 2: elements 192 .. 447 ...  bit tells the segment, whose start is kept moved down so far
//                                       that the sum itself finds the element: two loads in all.
//
// For what is looked up on a fast path; where one more load does not matter GrowingTable grows in
// even steps.
// Units:      elements
// Invariants: 1 elements below size() are constructed, those above are not
// Locking:    operator[], find() and size() none; grow(): caller serialises
// Complexity: access O(1); grow() O(elements added)
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/check.hpp>
#include <mmkit/base/result.hpp>
#include <new>
#include <type_traits>

namespace mmkit {

/// An array of up to 2^32 - 64 T, which start as T().
template <class T>
class GrowingArray {
  static_assert(std::is_nothrow_default_constructible_v<T> && std::is_trivially_destructible_v<T>);

 public:
  constexpr GrowingArray() noexcept = default;
  GrowingArray(const GrowingArray&) = delete;
  GrowingArray& operator=(const GrowingArray&) = delete;
  ~GrowingArray() {
    for (unsigned s = 0; s < kSegments; ++s) {
      if (segment(s) != 0) {
        ::operator delete (reinterpret_cast<void*>(segment(s) + skipped(s)),
                           std::align_val_t{kAlign});
      }
    }
  }

  /// An element that exists. Thread safety: safe; whoever names the index to another thread orders
  /// what is in the element.
  T& operator[](std::uint32_t index) const noexcept {
    MMKIT_ASSERT(index < size());
    // Relaxed: who knows the index learned it after grow() returned.
    return *at(index);
  }
  /// An element, or nullptr when there is none of that index: for indexes from outside.
  T* find(std::uint32_t index) const noexcept {
    // Acquire: pairs with grow(): who sees the size sees the elements below it.
    if (index >= size_.load(std::memory_order_acquire)) [[unlikely]]
      return nullptr;
    return at(index);
  }
  std::uint32_t size() const noexcept { return size_.load(std::memory_order_acquire); }

  /// Makes the array at least so long. Errors: out_of_memory (also: longer than can be), the array
  /// then being as it was. Thread safety: caller serialises.
  Status grow(std::uint32_t size) noexcept {
    const std::uint32_t from = size_.load(std::memory_order_relaxed);
    if (size <= from) return {};
    if (size > kMost) return fail(Errc::out_of_memory);
    for (unsigned s = 0; s <= segment_of(size - 1); ++s) {
      if (segment(s) != 0) continue;
      void* const memory =
          ::operator new (skipped(s), std::align_val_t{kAlign}, std::nothrow);  // as long as that
      if (memory == nullptr) return fail(Errc::out_of_memory);
      segments_[s].store(reinterpret_cast<std::uintptr_t>(memory) - skipped(s),
                         std::memory_order_relaxed);
    }
    for (std::uint32_t i = from; i < size; ++i) ::new (static_cast<void*>(at(i))) T();
    size_.store(size, std::memory_order_release);  // pairs with find()
    return {};
  }

  /// What the elements take; the untouched end of the last segment is no memory yet.
  std::size_t bytes() const noexcept { return size() * sizeof(T); }

 private:
  static constexpr unsigned kFirstShift = 6;
  static constexpr std::uint32_t kFirst = 1U << kFirstShift;
  static constexpr std::uint32_t kMost = 0xffffffff - kFirst;
  static constexpr unsigned kSegments = 32 - kFirstShift;
  static constexpr std::size_t kAlign = alignof(T) < 64 ? 64 : alignof(T);

  static constexpr unsigned segment_of(std::uint32_t index) noexcept {
    return (31U ^ static_cast<unsigned>(__builtin_clz(index + kFirst))) - kFirstShift;
  }
  // Bytes of the elements before a segment and of the 64 that were added: also those of its own.
  static constexpr std::size_t skipped(unsigned segment) noexcept {
    return (std::size_t{kFirst} << segment) * sizeof(T);
  }
  std::uintptr_t segment(unsigned number) const noexcept {
    return segments_[number].load(std::memory_order_relaxed);
  }
  T* at(std::uint32_t index) const noexcept {
    const std::uintptr_t start = segment(segment_of(index));
    return reinterpret_cast<T*>(start + (std::uintptr_t{index} + kFirst) * sizeof(T));
  }

  std::atomic<std::uint32_t> size_{0};
  std::atomic<std::uintptr_t> segments_[kSegments] = {};  // moved down, as above; 0: none yet
};

}  // namespace mmkit
