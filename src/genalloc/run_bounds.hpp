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
// A group of 32 is one cache line, compared as a whole: no branch.
// Units: granules
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "genalloc/hint_tree.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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
  /// Whether there is nothing to raise.
  static bool suffices(std::uint64_t word, std::size_t lane, std::uint64_t hint) noexcept {
    const std::uint64_t here = at(word, lane);
    return here >= hint && (here < kMarks || here == kLong);
  }
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
    if constexpr (Sync::kVectorLoads) {
      const std::uint32_t enough = at_least(group, want) & ~std::uint32_t{0} << first;
      return enough == 0 ? kFan : static_cast<std::size_t>(std::countr_zero(enough));
    }
    std::uint64_t words[kFan / kLanes];
#pragma GCC unroll 8
    for (unsigned i = 0; i < kFan / kLanes; ++i) {
      // Acquire: keeps the later look at the pool's head behind it. Loaded once: a comparison that
      // looked twice might see two different bounds.
      words[i] = group[i].load(std::memory_order_acquire);
    }
    const std::uint32_t enough = at_least_portable(words, want) & ~std::uint32_t{0} << first;
    return enough == 0 ? kFan : static_cast<std::size_t>(std::countr_zero(enough));
  }

  /// A bit for each lane of a group that is at least `want`, by vectors. Each word is loaded by an
  /// instruction of eight bytes, which is whole as any of that size; asm, because no intrinsic
  /// promises which instruction it becomes, nor that it is not done twice.
  template <class Cell>
  static std::uint32_t at_least(const Cell* words, std::uint64_t want) noexcept {
#if defined(__SSE2__) && defined(__x86_64__)
    const __m128i wanted = _mm_set1_epi16(static_cast<short>(want));
    const __m128i a = _mm_cmpgt_epi16(wanted, pair(words));
    const __m128i b = _mm_cmpgt_epi16(wanted, pair(words + 2));
    const __m128i c = _mm_cmpgt_epi16(wanted, pair(words + 4));
    const __m128i d = _mm_cmpgt_epi16(wanted, pair(words + 6));
    // Keeps the later look at the pool's head behind the loads; the processor does so by itself.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const int low = _mm_movemask_epi8(_mm_packs_epi16(a, b));
    const int high = _mm_movemask_epi8(_mm_packs_epi16(c, d));
    return ~(static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high) << 16);
#else
    return at_least_portable(words, want);
#endif
  }
#if defined(__SSE2__) && defined(__x86_64__)
  template <class Cell>
  static __m128i pair(const Cell* words) noexcept {
    static_assert(sizeof(Cell) == sizeof(std::uint64_t));
    __m128i both;
    asm volatile("movq %[low], %[both]\n\tmovhps %[high], %[both]"
                 : [both] "=&x"(both)
                 : [low] "m"(words[0]), [high] "m"(words[1]));
    return both;
  }
#endif
  /// The same by subtraction, four lanes at a time.
  static std::uint32_t at_least_portable(const std::uint64_t* words, std::uint64_t want) noexcept {
    constexpr std::uint64_t kTops = 0x8000'8000'8000'8000;
    constexpr std::uint64_t kOnes = 0x0001'0001'0001'0001;
    std::uint32_t enough = 0;
    for (unsigned i = 0; i < kFan / kLanes; ++i) {
      const std::uint64_t tops = ((words[i] | kTops) - want * kOnes) & kTops;
      // Bits 15, 31, 47 and 63, side by side.
      const std::uint64_t nibble = (tops >> 15) * 0x0001'0002'0004'0008 >> 48 & 15;
      enough |= static_cast<std::uint32_t>(nibble) << (kLanes * i);
    }
    return enough;
  }
};

template <class Sync>
using RunBounds = HintTree<Sync, RunBound>;

}  // namespace mmkit::genalloc
