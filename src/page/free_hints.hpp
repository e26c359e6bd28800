// SPDX-License-Identifier: MIT
//
// FreeHints - below which frame there is no use in looking for free frames, for each length.
//
// Lengths of 1..64 pages are classes of their own, then each power of two begins one.
// Units:      frames
// Invariants: 1 no run of free frames of a class's shortest length begins below its hint; a hint
//             that is too low only costs time
// Locking:    none: caller serialises
// Complexity: get, set O(1); lower O(classes)
#pragma once

#include <cstddef>
#include <mmkit/base/bits.hpp>

#include "page/frame_link.hpp"

namespace mmkit::page_detail {

/// For each class of lengths, the lowest frame at which free frames may begin.
class FreeHints {
 public:
  static constexpr std::size_t kExact = 64;
  static constexpr std::size_t kClasses = kExact + 25;

  /// The class of the lengths from floor_of() up to the next class.
  static constexpr std::size_t class_of(std::size_t pages) noexcept {
    if (pages <= kExact) return pages - 1;
    const unsigned order = log2_floor(pages);
    return order == 6 ? kExact - 1 : kExact + order - 7;
  }
  static constexpr std::size_t floor_of(std::size_t length_class) noexcept {
    return length_class < kExact ? length_class + 1 : std::size_t{128} << (length_class - kExact);
  }

  void reset(FrameIndex begin) noexcept {
    for (FrameIndex& hint : lowest_) hint = begin;
  }
  FrameIndex get(std::size_t length_class) const noexcept { return lowest_[length_class]; }
  void set(std::size_t length_class, FrameIndex frame) noexcept { lowest_[length_class] = frame; }
  /// Notes that frames from `first` on are free again, in a node that begins at `begin`: a run of n
  /// frames has one of them from first - (n - 1) on.
  void lower(FrameIndex first, FrameIndex begin) noexcept {
    for (std::size_t i = 0; i < kClasses; ++i) {
      const std::size_t before = floor_of(i) - 1;
      const FrameIndex lowest =
          first - begin > before ? static_cast<FrameIndex>(first - before) : begin;
      if (lowest < lowest_[i]) lowest_[i] = lowest;
    }
  }

 private:
  FrameIndex lowest_[kClasses];
};
static_assert(FreeHints::class_of(std::size_t{1} << 31) == FreeHints::kClasses - 1);

}  // namespace mmkit::page_detail
