// SPDX-License-Identifier: MIT
//
// Leaf - 512 granules as eight words in private memory, and the runs that lie in them.
//
// A copy of a published leaf (leaf_table.hpp): what is found here is true of the pool only if the
// pool did not change meanwhile, which is for the caller to see. Bits here are 1 = FREE, the
// opposite of the published form, because every question is about free granules.
//
// A run of up to 64 granules is looked for with a window of two words: ANDing the window with
// itself, shifted by 1, 2, 4 ..., leaves a bit where enough free ones follow. Eight windows a leaf,
// and no branch a run: as fast in a leaf of 256 runs as in one of two.
// Units:      granules; positions are 0 to 511
// Complexity: O(8 log run)
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>

namespace mmkit::genalloc {

inline constexpr unsigned kLeafWords = 8;
inline constexpr unsigned kLeafBits = 512;
inline constexpr unsigned kWindowBits = 64;  ///< the longest run that a window can show

using Word = std::uint64_t;

namespace detail {
/// The positions of `low` where `run` (1 to 64) free granules begin; `high` follows `low`.
inline Word starts_of(Word low, Word high, unsigned run) noexcept {
  for (unsigned have = 1; have < run;) {
    const unsigned step = have < run - have ? have : run - have;  // at most 32
    low &= low >> step | high << (64 - step);
    high &= high >> step;
    have += step;
  }
  return low;
}
}  // namespace detail

/// The bits of word `index` that are in [first, first + count), count at least 1; both ends may lie
/// in other words.
inline Word range_in_word(unsigned index, unsigned first, unsigned count) noexcept {
  // The bits of the word that lie below either end. No branch: where a run lies nobody can predict.
  const auto below = [index](unsigned end) noexcept {
    const int bits = static_cast<int>(end) - static_cast<int>(index * 64);
    const int here = bits < 0 ? 0 : bits > 64 ? 64 : bits;
    return (Word{1} << (here / 2) << (here - here / 2)) - 1;
  };
  return below(first + count) & ~below(first);
}

struct Leaf {
  Word free[kLeafWords];

  /// Free granules at the low end.
  unsigned prefix() const noexcept {
    for (unsigned i = 0; i < kLeafWords; ++i) {
      if (~free[i] != 0) return i * 64 + static_cast<unsigned>(std::countr_one(free[i]));
    }
    return kLeafBits;
  }
  /// Free granules at the high end.
  unsigned suffix() const noexcept {
    for (unsigned i = kLeafWords; i-- != 0;) {
      if (~free[i] != 0) {
        return (kLeafWords - 1 - i) * 64 + static_cast<unsigned>(std::countl_one(free[i]));
      }
    }
    return kLeafBits;
  }
  bool free_at(unsigned bit) const noexcept { return (free[bit / 64] >> (bit % 64) & 1) != 0; }
  bool last_free() const noexcept { return static_cast<std::int64_t>(free[kLeafWords - 1]) < 0; }
  unsigned count() const noexcept {
    unsigned total = 0;
    for (const Word word : free) total += static_cast<unsigned>(std::popcount(word));
    return total;
  }
  /// Free granules from `bit` upwards, within the leaf.
  unsigned run_from(unsigned bit) const noexcept {
    unsigned index = bit / 64;
    unsigned length = static_cast<unsigned>(std::countr_one(free[index] >> (bit % 64)));
    if (length < 64 - bit % 64) return length;
    length = 64 - bit % 64;
    while (++index < kLeafWords) {
      if (~free[index] != 0) return length + static_cast<unsigned>(std::countr_one(free[index]));
      length += 64;
    }
    return length;
  }
  /// Free granules just below `bit`, within the leaf.
  unsigned run_before(unsigned bit) const noexcept {
    unsigned length = 0;
    while (length < bit) {
      const unsigned at = bit - length;  // 1 to 512
      const unsigned shift = (64 - at % 64) % 64;
      const Word word = free[(at - 1) / 64] << shift;
      const unsigned ones = static_cast<unsigned>(std::countl_one(word));
      length += ones;
      if (ones < 64 - shift) break;
    }
    return length;
  }
  /// Makes [0, count) taken.
  void clear_prefix(unsigned count) noexcept {
    for (unsigned i = 0; i < kLeafWords && count > i * 64; ++i) {
      const unsigned here = count - i * 64;
      free[i] &= ~low_bits(here < 64 ? here : 64);
    }
  }

  /// Of the runs that begin here (`continued`: the leaf before ends with a free granule, so that a
  /// run at position 0 begins there), calls visit(position) for each of at least `run` (1 to 64)
  /// granules, upwards, until it returns false. Whether it never did.
  template <class Following, class Visit>
  bool for_each_start(unsigned run, bool continued, Following&& following,
                      Visit&& visit) const noexcept {
    Word before = continued ? 1 : 0;
    for (unsigned i = 0; i < kLeafWords; ++i) {
      const Word word = free[i];
      const Word begins = word & ~(word << 1 | before);
      before = word >> 63;
      if (begins == 0) continue;
      Word next = 0;
      if (before != 0) next = i + 1 < kLeafWords ? free[i + 1] : following();
      Word found = begins & detail::starts_of(word, next, run);
      for (; found != 0; found &= found - 1) {
        if (!visit(i * 64 + static_cast<unsigned>(std::countr_zero(found)))) return false;
      }
    }
    return true;
  }

  /// The longest run within the leaf.
  unsigned longest() const noexcept;
};

inline unsigned Leaf::longest() const noexcept {
  unsigned best = 0;
  unsigned open = 0;  // length of the run that reaches the end of the words so far
  for (const Word word : free) {
    if (~word == 0) {
      open += 64;
      continue;
    }
    const unsigned closed = open + static_cast<unsigned>(std::countr_one(word));
    if (closed > best) best = closed;
    open = static_cast<unsigned>(std::countl_one(word));
    // Runs inside the word: each step leaves what is one longer, so it only goes as far as the
    // longest, and not at all where the best so far cannot be beaten.
    Word rest = word;
    unsigned length = 0;
    for (unsigned step = 1; step < 64 && rest != 0; step *= 2) {
      if ((rest & rest >> step) == 0) break;
      rest &= rest >> step;
      length = 2 * step - 1;
    }
    while (rest != 0) {
      rest &= rest >> 1;
      ++length;
    }
    if (length > best) best = length;
  }
  return open > best ? open : best;
}

}  // namespace mmkit::genalloc
