// SPDX-License-Identifier: MIT
//
// GrowingArray - an array that grows at its end; elements never move, readers take no lock.
//
//   segments_[0] -> kFirst elements      An index gives its segment by the position of its highest
//   segments_[1] -> kFirst               bit, so an access is two loads: the segment, the element.
//   segments_[2] -> 2 * kFirst           Each segment is as long as all before it together; memory
//   segments_[3] -> 4 * kFirst ...       of its unused end is never touched.
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
    for (std::atomic<T*>& segment : segments_) {
      ::operator delete(segment.load(std::memory_order_relaxed), std::align_val_t{kAlign});
    }
  }

  /// An element that exists. Thread safety: safe; whoever names the index to another thread orders
  /// what is in the element.
  T& operator[](std::uint32_t index) const noexcept {
    MMKIT_ASSERT(index < size());
    const Position at = position(index);
    // Relaxed: who knows the index learned it after grow() returned.
    return segments_[at.segment].load(std::memory_order_relaxed)[at.offset];
  }
  /// An element, or nullptr when there is none of that index: for indexes from outside.
  T* find(std::uint32_t index) const noexcept {
    // Acquire: pairs with grow(): who sees the size sees the elements below it.
    if (index >= size_.load(std::memory_order_acquire)) [[unlikely]]
      return nullptr;
    const Position at = position(index);
    return segments_[at.segment].load(std::memory_order_relaxed) + at.offset;
  }
  std::uint32_t size() const noexcept { return size_.load(std::memory_order_acquire); }

  /// Makes the array at least so long. Errors: out_of_memory (also: longer than can be), the array
  /// then being as it was. Thread safety: caller serialises.
  Status grow(std::uint32_t size) noexcept {
    const std::uint32_t from = size_.load(std::memory_order_relaxed);
    if (size <= from) return {};
    if (size > kMost) return fail(Errc::out_of_memory);
    for (unsigned s = 0; s <= position(size - 1).segment; ++s) {
      if (segments_[s].load(std::memory_order_relaxed) != nullptr) continue;
      void* const memory = ::operator new (sizeof(T) * length(s), std::align_val_t{kAlign},
                                           std::nothrow);
      if (memory == nullptr) return fail(Errc::out_of_memory);
      segments_[s].store(static_cast<T*>(memory), std::memory_order_relaxed);
    }
    for (std::uint32_t i = from; i < size; ++i) {
      const Position at = position(i);
      ::new (static_cast<void*>(segments_[at.segment].load(std::memory_order_relaxed) + at.offset))
          T();
    }
    size_.store(size, std::memory_order_release);  // pairs with find()
    return {};
  }

  /// What the elements take; the untouched end of the last segment is no memory yet.
  std::size_t bytes() const noexcept { return size() * sizeof(T); }

 private:
  static constexpr unsigned kFirstShift = 6;
  static constexpr std::uint32_t kFirst = 1U << kFirstShift;
  static constexpr std::uint32_t kMost = 0xffffffff - kFirst;
  static constexpr unsigned kSegments = 32 - kFirstShift + 1;
  static constexpr std::size_t kAlign = alignof(T) < 64 ? 64 : alignof(T);

  struct Position {
    unsigned segment;
    std::uint32_t offset;
  };
  // Segment 0 is [0, 64), segment 1 [64, 128), segment 2 [128, 256): the highest bit of the index,
  // with all of the first 64 in one.
  static constexpr Position position(std::uint32_t index) noexcept {
    const unsigned width = static_cast<unsigned>(std::bit_width(index | (kFirst - 1)));
    const unsigned segment = width - kFirstShift;
    return {segment, index & ~(segment == 0 ? 0U : 1U << (width - 1))};
  }
  static constexpr std::size_t length(unsigned segment) noexcept {
    return segment == 0 ? kFirst : std::size_t{kFirst} << (segment - 1);
  }

  std::atomic<std::uint32_t> size_{0};
  std::atomic<T*> segments_[kSegments] = {};
};

}  // namespace mmkit
