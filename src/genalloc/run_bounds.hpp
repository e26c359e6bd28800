// SPDX-License-Identifier: MIT
//
// RunBound - the hint for first fit: no run that begins in the leaf is longer than this.
//
//   word   63      48      32      16       0
//         +-------+-------+-------+-------+          four lanes of fifteen bits; the sixteenth is
//         |0 bound|0 bound|0 bound|0 bound|          0, so that a subtraction of all four at once
//         +-------+-------+-------+-------+          shows in it which are large enough
//
//   0 ... 0x7eff  a bound     0x7f00 + slot  a mark     0x7fff  long: at least 0x7f00, or unknown
//
// A group of 32 is one cache line. It is searched with eight subtractions and no branch.
// Units: granules
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "genalloc/hint_tree.hpp"

namespace mmkit::genalloc {

struct RunBound {
  static constexpr std::size_t kFan = 32;
  static constexpr std::size_t kLanes = 4;
  static constexpr std::uint64_t kMarks = 0x7f00;
  static constexpr std::uint64_t kLong = 0x7fff;
  static constexpr unsigned kLaneBits = 16;

  /// The hint for a run of so many granules.
  static constexpr std::uint64_t of(std::size_t granules) noexcept {
    return granules < kMarks ? granules : kLong;
  }
  /// What to look for: marks and long runs admit everything.
  static constexpr std::uint64_t wanted(std::size_t granules) noexcept {
    return granules < kMarks ? granules : kMarks;
  }

  static std::uint64_t at(std::uint64_t word, std::size_t lane) noexcept {
    return word >> (kLaneBits * lane) & 0xffff;
  }
  static std::uint64_t with(std::uint64_t word, std::size_t lane, std::uint64_t hint) noexcept {
    const unsigned shift = static_cast<unsigned>(kLaneBits * lane);
    return (word & ~(std::uint64_t{0xffff} << shift)) | hint << shift;
  }
  static std::uint64_t admitted(std::uint64_t hint) noexcept {
    return hint < kMarks ? hint : kLong;
  }
  static std::uint64_t join(std::uint64_t a, std::uint64_t b) noexcept { return a > b ? a : b; }
  static std::uint64_t marked(std::uint64_t, unsigned slot) noexcept { return kMarks + slot; }
  static std::uint64_t raised(std::uint64_t word, std::size_t lane, std::uint64_t hint) noexcept {
    const std::uint64_t before = at(word, lane);
    if (before >= kMarks && before != kLong) return with(word, lane, kLong);
    return before >= hint ? word : with(word, lane, hint);
  }

  /// The lowest lane of a group, from `first` on, that is at least `want` (below 0x8000); kFan when
  /// there is none.
  template <class Sync>
  static std::size_t find(const typename Sync::template Atomic<std::uint64_t>* group,
                          unsigned first, std::uint64_t want) noexcept {
    constexpr std::uint64_t kTops = 0x8000'8000'8000'8000;
    constexpr std::uint64_t kOnes = 0x0001'0001'0001'0001;
    const std::uint64_t wanted = want * kOnes;
    // Bit 16 * lane + word: so eight words fit side by side.
    std::uint64_t enough = 0;
    for (unsigned i = 0; i < kFan / kLanes; ++i) {
      // Acquire: keeps the later look at the pool's head behind it.
      const std::uint64_t word = group[i].load(std::memory_order_acquire);
      enough |= (((word | kTops) - wanted) & kTops) >> (15 - i);
    }
    if (first != 0) {
      const unsigned word = first / kLanes;
      enough &= ~(kOnes * ((1u << word) - 1));
      for (unsigned lane = 0; lane < first % kLanes; ++lane) {
        enough &= ~(std::uint64_t{1} << (kLaneBits * lane + word));
      }
    }
    if (enough == 0) return kFan;
    const std::uint64_t words = (enough | enough >> 16 | enough >> 32 | enough >> 48) & 0xff;
    const unsigned word = static_cast<unsigned>(std::countr_zero(words));
    const unsigned lane = static_cast<unsigned>(std::countr_zero(enough >> word & kOnes)) / 16;
    return word * kLanes + lane;
  }
};

template <class Sync>
using RunBounds = HintTree<Sync, RunBound>;

}  // namespace mmkit::genalloc
