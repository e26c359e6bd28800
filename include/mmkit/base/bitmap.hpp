// SPDX-License-Identifier: MIT
//
// Bitmap - runs of bits in plain 64-bit words: set, clear, test, find.
//
// Functions over words that the caller owns, not a container: the words of a page allocator lie in
// reserved memory, those of a test on its stack. Bit b is bit b % 64 of word b / 64. Not atomic.
// Units:      bits; a range is [begin, end) or (start, count)
// Locking:    none: caller serialises
// Complexity: O(bits / 64) unless said otherwise; a search skips full words whole
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>

namespace mmkit::bitmap {

inline constexpr std::size_t kWordBits = 64;

/// How many words hold `bits` bits.
constexpr std::size_t words_for(std::size_t bits) noexcept {
  return divide_up(bits, kWordBits);
}

/// Whether bit `index` is set. Complexity: O(1).
constexpr bool test(const std::uint64_t* words, std::size_t index) noexcept {
  return (words[index / kWordBits] >> (index % kWordBits) & 1) != 0;
}
/// Sets one bit. Complexity: O(1).
constexpr void set(std::uint64_t* words, std::size_t index) noexcept {
  words[index / kWordBits] |= std::uint64_t{1} << (index % kWordBits);
}
/// Clears one bit. Complexity: O(1).
constexpr void clear(std::uint64_t* words, std::size_t index) noexcept {
  words[index / kWordBits] &= ~(std::uint64_t{1} << (index % kWordBits));
}

namespace detail {
// Calls f(word index, mask of the range's bits in that word) for each word of [start, start+count)
// until f returns false; whether it never did.
template <class F>
constexpr bool for_each_word(std::size_t start, std::size_t count, F&& f) noexcept {
  std::size_t index = start / kWordBits;
  unsigned shift = static_cast<unsigned>(start % kWordBits);
  while (count != 0) {
    const std::size_t here = count < kWordBits - shift ? count : kWordBits - shift;
    if (!f(index, low_bits(static_cast<unsigned>(here)) << shift)) return false;
    count -= here;
    ++index;
    shift = 0;
  }
  return true;
}
}  // namespace detail

/// Sets the bits [start, start + count).
constexpr void set_range(std::uint64_t* words, std::size_t start, std::size_t count) noexcept {
  detail::for_each_word(start, count, [words](std::size_t i, std::uint64_t mask) noexcept {
    words[i] |= mask;
    return true;
  });
}
/// Clears the bits [start, start + count).
constexpr void clear_range(std::uint64_t* words, std::size_t start, std::size_t count) noexcept {
  detail::for_each_word(start, count, [words](std::size_t i, std::uint64_t mask) noexcept {
    words[i] &= ~mask;
    return true;
  });
}
/// Whether all of [start, start + count) are set; true for none.
constexpr bool all_set(const std::uint64_t* words, std::size_t start, std::size_t count) noexcept {
  return detail::for_each_word(start, count, [words](std::size_t i, std::uint64_t mask) noexcept {
    return (words[i] & mask) == mask;
  });
}
/// Whether all of [start, start + count) are clear; true for none.
constexpr bool all_clear(const std::uint64_t* words, std::size_t start,
                         std::size_t count) noexcept {
  return detail::for_each_word(start, count, [words](std::size_t i, std::uint64_t mask) noexcept {
    return (words[i] & mask) == 0;
  });
}
/// How many of [start, start + count) are set.
constexpr std::size_t count_set(const std::uint64_t* words, std::size_t start,
                                std::size_t count) noexcept {
  std::size_t total = 0;
  detail::for_each_word(start, count, [words, &total](std::size_t i, std::uint64_t mask) noexcept {
    total += static_cast<std::size_t>(std::popcount(words[i] & mask));
    return true;
  });
  return total;
}

/// The first bit of [begin, end) that is set (`kSet`) or clear; `end` when there is none.
template <bool kSet>
constexpr std::size_t next(const std::uint64_t* words, std::size_t begin,
                           std::size_t end) noexcept {
  if (begin >= end) return end;
  const std::uint64_t flip = kSet ? 0 : ~std::uint64_t{0};
  std::size_t index = begin / kWordBits;
  std::uint64_t word = (words[index] ^ flip) & ~low_bits(static_cast<unsigned>(begin % kWordBits));
  const std::size_t last = (end - 1) / kWordBits;
  while (word == 0) {
    if (index == last) return end;
    word = words[++index] ^ flip;
  }
  const std::size_t found = index * kWordBits + static_cast<std::size_t>(std::countr_zero(word));
  return found < end ? found : end;
}
/// The first set bit of [begin, end); `end` when there is none.
constexpr std::size_t next_set(const std::uint64_t* words, std::size_t begin,
                               std::size_t end) noexcept {
  return next<true>(words, begin, end);
}
/// The first clear bit of [begin, end); `end` when there is none.
constexpr std::size_t next_clear(const std::uint64_t* words, std::size_t begin,
                                 std::size_t end) noexcept {
  return next<false>(words, begin, end);
}

/// The last set bit of [begin, end); `end` when there is none.
constexpr std::size_t last_set(const std::uint64_t* words, std::size_t begin,
                               std::size_t end) noexcept {
  if (begin >= end) return end;
  const std::size_t lowest = begin / kWordBits;
  std::size_t index = (end - 1) / kWordBits;
  std::uint64_t word = words[index] & low_bits(static_cast<unsigned>((end - 1) % kWordBits) + 1);
  while (word == 0) {
    if (index == lowest) return end;
    word = words[--index];
  }
  const std::size_t found = index * kWordBits + log2_floor(word);
  return found < begin ? end : found;
}

/// The lowest start of `count` (at least 1) bits of one kind inside [begin, end), the start a
/// multiple of `align` (a power of two); `end` when there is none. First fit.
template <bool kSet>
constexpr std::size_t find_run(const std::uint64_t* words, std::size_t begin, std::size_t end,
                               std::size_t count, std::size_t align) noexcept {
  MMKIT_ASSERT(count != 0 && is_power_of_two(align));
  while (true) {
    begin = next<kSet>(words, begin, end);
    const std::size_t skip = (0 - begin) & (align - 1);  // to the next multiple, which may overflow
    if (begin >= end || end - begin < skip || end - begin - skip < count) return end;
    begin += skip;
    const std::size_t stop = next<!kSet>(words, begin, begin + count);
    if (stop == begin + count) return begin;
    begin = stop + 1;
  }
}
/// The lowest aligned run of `count` clear bits in [begin, end); `end` when there is none.
constexpr std::size_t find_clear_run(const std::uint64_t* words, std::size_t begin, std::size_t end,
                                     std::size_t count, std::size_t align = 1) noexcept {
  return find_run<false>(words, begin, end, count, align);
}
/// The lowest aligned run of `count` set bits in [begin, end); `end` when there is none.
constexpr std::size_t find_set_run(const std::uint64_t* words, std::size_t begin, std::size_t end,
                                   std::size_t count, std::size_t align = 1) noexcept {
  return find_run<true>(words, begin, end, count, align);
}

}  // namespace mmkit::bitmap
