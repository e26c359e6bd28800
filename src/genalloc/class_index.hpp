// SPDX-License-Identifier: MIT
//
// RunClasses - the hint for best fit: runs of which lengths may begin in the leaf.
//
//   word   63      57 56          40 39                     0
//         +----------+--------------+------------------------+
//         |   mark   | 17 classes   | one class a length     |
//         |          | from 41 on   | 1 to 40                |
//         +----------+--------------+------------------------+
//
// Best fit is then the lowest class that is set anywhere and large enough, in the leftmost leaf
// that has it. Among runs of a class of several lengths it has to look at all; LengthIndex narrows
// that down. A mark (slot + 1) leaves the classes in place: it denies nothing.
// Units: granules
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>

#include "genalloc/hint_tree.hpp"

namespace mmkit::genalloc {

struct RunClasses {
  static constexpr std::size_t kFan = 16;
  static constexpr std::size_t kLanes = 1;
  static constexpr unsigned kClasses = 57;
  static constexpr unsigned kExact = 40;  ///< classes of one length
  static constexpr std::uint64_t kAll = (std::uint64_t{1} << kClasses) - 1;
  /// From here on all lengths are one class.
  static constexpr std::size_t kLongest = std::size_t{1} << 14;

  /// The class of a run of so many (at least 1) granules.
  static constexpr unsigned class_of(std::size_t granules) noexcept {
    if (granules <= kExact) return static_cast<unsigned>(granules) - 1;
    if (granules < 48) return kExact;
    const unsigned log = log2_floor(granules);
    if (log < 12) {  // two classes to a power of two, 48 to 4095
      const unsigned half = static_cast<unsigned>(granules >> (log - 1) & 1);
      return kExact + 2 * (log - 5) + half;
    }
    return granules < kLongest ? 42 + log : kClasses - 1;
  }
  static constexpr std::uint64_t of(std::size_t granules) noexcept {
    return std::uint64_t{1} << class_of(granules);
  }

  static std::uint64_t at(std::uint64_t word, std::size_t) noexcept { return word; }
  static std::uint64_t with(std::uint64_t, std::size_t, std::uint64_t hint) noexcept {
    return hint;
  }
  static std::uint64_t admitted(std::uint64_t hint) noexcept { return hint & kAll; }
  static std::uint64_t join(std::uint64_t a, std::uint64_t b) noexcept { return a | b; }
  static std::uint64_t marked(std::uint64_t hint, unsigned slot) noexcept {
    return (hint & kAll) | std::uint64_t{slot + 1} << kClasses;
  }
  static std::uint64_t raised(std::uint64_t word, std::size_t, std::uint64_t hint) noexcept {
    if ((word & ~kAll) != 0) return (word & kAll) | hint;
    return word | hint;
  }

  /// The lowest lane of a group, from `first` on, that has any class of `want`; kFan for none.
  template <class Sync>
  static std::size_t find(const typename Sync::template Atomic<std::uint64_t>* group,
                          unsigned first, std::uint64_t want) noexcept {
    unsigned has = 0;
#pragma GCC unroll 16
    for (unsigned i = 0; i < kFan; ++i) {
      // Acquire: keeps the later look at the pool's head behind it.
      const std::uint64_t word = group[i].load(std::memory_order_acquire);
      has |= static_cast<unsigned>((word & want) != 0) << i;
    }
    has &= ~0u << first;
    return has == 0 ? kFan : static_cast<std::size_t>(std::countr_zero(has));
  }
};

template <class Sync>
using ClassIndex = HintTree<Sync, RunClasses>;

}  // namespace mmkit::genalloc
