// SPDX-License-Identifier: MIT
//
// LeafTable - the bitmap of a chunk: leaves that are replaced, never written.
//
//   entry[leaf]   63              28 27           0
//                +------------------+--------------+     version: +1 at each replacement
//                |     version      |    buffer    |
//                +------------------+--------------+
//                                        |
//   buffers      0 all free   1 all taken   2 ...  last       of 64 bytes, 1 = taken
//                (these two are never stored: the number says it)
//
// To change a leaf is to write its new contents into a buffer nobody sees and to exchange the
// entry. So a change of up to 512 granules is one step, anybody may make that step (the version
// lets it succeed once), and a long run costs one entry a leaf. A leaf that becomes all free or all
// taken is always given buffer 0 or 1: the inner leaves of a run need none of their own, and "the
// entry names the new buffer" always means "the step was made".
//
// With starts, a buffer has a second half: a bit for each granule where an allocation begins.
// Buffer 1 then means all taken and none begins.
//
// In one file though it is long: reading, changing and recycling share the layout of a buffer, which
// nothing else knows.
//
// Buffers that nobody uses are in a stack, the next one's number in the first word; those never
// used yet are handed out in order, so that memory is touched as far as it is needed.
// Units:      leaves of 512 granules; buffers by number
// Invariants: 1 entries name different buffers, but for 0 and 1  2 a leaf all free has buffer 0, one
//             all taken (and, with starts, none beginning) buffer 1  3 bits past the end of the
//             chunk are taken; the entry after the last leaf names buffer 1  4 a named buffer is
//             not written
// Locking:    none: whoever reads asks afterwards whether the pool changed meanwhile
// Complexity: O(1) a leaf
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/mutant.hpp>
#include <new>

#include "genalloc/leaf.hpp"

namespace mmkit::genalloc {

inline constexpr std::uint32_t kAllFree = 0;
inline constexpr std::uint32_t kAllTaken = 1;
inline constexpr std::uint32_t kFirstBuffer = 2;
inline constexpr unsigned kBufferBits = 28;
inline constexpr std::uint64_t kBufferMask = (std::uint64_t{1} << kBufferBits) - 1;

inline constexpr std::uint32_t buffer_of(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry & kBufferMask);
}

/// What became of a leaf in which a run was turned.
enum class Turned {
  mixed,
  uniform,   ///< all free, or all taken
  conflict,  ///< some of the run was so already
};

template <class Sync>
class LeafTable {
 public:
  using Cell = typename Sync::template Atomic<std::uint64_t>;

  /// Cells besides the leaves: the entry after the last, the stack, the first number never used.
  static constexpr std::size_t kExtraEntries = 3;
  static constexpr std::size_t words_per_buffer(bool starts) noexcept {
    return starts ? 2 * kLeafWords : kLeafWords;
  }

  /// The memory is the chunk's: `entries` for leaves + kExtraEntries, `buffers` for all but the
  /// first two of `buffer_count`.
  void attach(Cell* entries, Cell* buffers, std::size_t leaves, std::uint32_t buffer_count,
              bool starts) noexcept {
    entries_ = entries;
    buffers_ = buffers;
    leaves_ = leaves;
    buffer_count_ = buffer_count;
    stride_ = static_cast<unsigned>(words_per_buffer(starts));
  }
  /// A chunk of `granules`, all free.
  void format(std::size_t granules) noexcept {
    for (std::size_t i = 0; i < leaves_; ++i) ::new (static_cast<void*>(entries_ + i)) Cell(0);
    ::new (static_cast<void*>(entries_ + leaves_)) Cell(kAllTaken);
    ::new (static_cast<void*>(&stack())) Cell(0);
    ::new (static_cast<void*>(&never_used())) Cell(kFirstBuffer);
    const unsigned tail = static_cast<unsigned>(granules % kLeafBits);
    if (tail == 0) return;
    const std::uint32_t buffer = take_buffer();
    Leaf leaf;
    for (unsigned i = 0; i < kLeafWords; ++i) {
      leaf.free[i] = ~range_in_word(i, tail, kLeafBits - tail);
    }
    write(buffer, leaf);
    entries_[leaves_ - 1].store(buffer, std::memory_order_relaxed);
  }

  std::size_t leaves() const noexcept { return leaves_; }
  std::uint32_t buffer_count() const noexcept { return buffer_count_; }
  bool has_starts() const noexcept { return stride_ != kLeafWords; }

  // ---------------------------------------------------------------- reading

  // Acquire, here and in every read of a buffer: pairs with the exchange in replace(), so that the
  // words are those of the buffer named; and keeps the later look at the pool's head behind it.
  std::uint64_t entry(std::size_t leaf) const noexcept {
    return entries_[leaf].load(std::memory_order_acquire);
  }
  /// The free granules of word `index`.
  Word free_word(std::uint64_t entry, unsigned index) const noexcept {
    const std::uint32_t buffer = buffer_of(entry);
    if (buffer <= kAllTaken) return buffer == kAllFree ? ~Word{0} : 0;
    return ~words(buffer)[index].load(std::memory_order_acquire);
  }
  void copy(std::uint64_t entry, Leaf* out) const noexcept {
    const std::uint32_t buffer = buffer_of(entry);
    if (buffer <= kAllTaken) {
      for (Word& word : out->free) word = buffer == kAllFree ? ~Word{0} : 0;
      return;
    }
    const Cell* const from = words(buffer);
#pragma GCC unroll 8
    for (unsigned i = 0; i < kLeafWords; ++i) {
      out->free[i] = ~from[i].load(std::memory_order_acquire);
    }
  }
  /// The lowest position in `leaf` where `run` (1 to 64) free granules begin, which may reach into
  /// the next leaf; kLeafBits when none does. Adds to `*touched` the words it looked at.
  unsigned first_of(std::size_t leaf, unsigned run, std::uint64_t* touched) const noexcept {
    const std::uint32_t buffer = buffer_of(entry(leaf));
    ++*touched;
    if (buffer <= kAllTaken) return buffer == kAllFree ? 0 : kLeafBits;
    const Cell* const from = words(buffer);
    Word low = ~from[0].load(std::memory_order_acquire);
    for (unsigned i = 0; i < kLeafWords; ++i) {
      const Word high = word_behind(leaf, i, from, low, touched);
      const Word found = low == 0 ? 0 : detail::starts_of(low, high, run);
      if (found != 0) return i * 64 + static_cast<unsigned>(std::countr_zero(found));
      low = high;
    }
    return kLeafBits;
  }
  /// The lowest maximal run of exactly `run` (1 to 63) granules that begins in `leaf`; kLeafBits
  /// when there is none. Adds to `*touched` the words it looked at.
  unsigned first_exact(std::size_t leaf, unsigned run, std::uint64_t* touched) const noexcept {
    const std::uint32_t buffer = buffer_of(entry(leaf));
    ++*touched;
    if (buffer <= kAllTaken) return kLeafBits;
    const Cell* const from = words(buffer);
    Word low = ~from[0].load(std::memory_order_acquire);
    // A run at position 0 may have begun in the leaf before.
    Word before = (low & 1) != 0 && leaf != 0 && last_free(leaf - 1) ? 1 : 0;
    for (unsigned i = 0; i < kLeafWords; ++i) {
      const Word high = word_behind(leaf, i, from, low, touched);
      const Word begins = low & ~(low << 1 | before);
      before = low >> 63;
      if (begins != 0) {
        const Word longer = low >> run | high << (64 - run);
        const Word found = begins & detail::starts_of(low, high, run) & ~longer;
        if (found != 0) return i * 64 + static_cast<unsigned>(std::countr_zero(found));
      }
      low = high;
    }
    return kLeafBits;
  }
  /// Whether the leaf's highest granule is free.
  bool last_free(std::size_t leaf) const noexcept {
    return static_cast<std::int64_t>(free_word(entry(leaf), kLeafWords - 1)) < 0;
  }
  /// The allocations that begin in word `index`; only with starts.
  Word start_word(std::uint64_t entry, unsigned index) const noexcept {
    const std::uint32_t buffer = buffer_of(entry);
    if (buffer <= kAllTaken) return 0;
    return words(buffer)[kLeafWords + index].load(std::memory_order_acquire);
  }
  /// The first leaf of [from, end) that is not wholly of `kind` (kAllFree or kAllTaken); else end.
  std::size_t skip(std::size_t from, std::size_t end, std::uint32_t kind) const noexcept {
    constexpr std::size_t kStep = 8;
    while (end - from >= kStep) {
      std::uint64_t differ = 0;
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kStep; ++i) differ |= entry(from + i) ^ kind;
      if ((differ & kBufferMask) != 0) break;
      from += kStep;
    }
    while (from < end && buffer_of(entry(from)) == kind) ++from;
    return from;
  }

  /// The highest leaf of [0, end) that is not all free, plus 1; 0 when there is none.
  std::size_t skip_down(std::size_t end) const noexcept {
    constexpr std::size_t kStep = 8;
    while (end >= kStep) {
      std::uint64_t differ = 0;
#pragma GCC unroll 8
      for (std::size_t i = 1; i <= kStep; ++i) differ |= entry(end - i) ^ kAllFree;
      if ((differ & kBufferMask) != 0) break;
      end -= kStep;
    }
    while (end != 0 && buffer_of(entry(end - 1)) == kAllFree) --end;
    return end;
  }

  // ---------------------------------------------------------------- writing

  /// Makes `leaf` name `buffer`, once: when it does already, or when `current()` says that the
  /// operation which asked for this is over, nothing happens. Returns false in the latter case.
  template <class Current>
  [[gnu::always_inline]] bool replace(std::size_t leaf, std::uint32_t buffer,
                                      Current&& current) noexcept {
    std::uint64_t seen = entry(leaf);
    if (buffer_of(seen) == buffer) return true;
    if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_flip_after_its_time, !current(), false)) return false;
    const std::uint64_t next =
        MMKIT_MUTATE(MMKIT_MUTANT_genpool_entry_without_version,
                     ((seen | kBufferMask) + 1) | buffer, (seen & ~kBufferMask) | buffer);
    // Release: the contents of `buffer`, for the acquire in entry(). Sequentially consistent: the
    // hints are looked at after this, as HintTree says. Should it fail, somebody made this step.
    entries_[leaf].compare_exchange_strong(seen, next, std::memory_order_seq_cst,
                                           std::memory_order_relaxed);
    return true;
  }
  // Release, and acquire in the readers: who still reads the buffer's former life has then seen
  // that the pool moved on, and finds out when it asks.
  void write(std::uint32_t buffer, const Leaf& leaf) noexcept {
    Cell* const to = words(buffer);
#pragma GCC unroll 8
    for (unsigned i = 0; i < kLeafWords; ++i) {
      to[i].store(~leaf.free[i], std::memory_order_release);
    }
  }
  /// Whether granules [begin, begin + count) of what `entry` names are all taken, or with `kTake` all
  /// free, and what becomes of the leaf when they no longer are: written into `buffer`, which is our
  /// own, unless it is all free or all taken. The same orders.
  template <bool kTake>
  [[gnu::always_inline]] Turned turn(std::uint64_t entry, std::uint32_t buffer, unsigned begin,
                                     unsigned count) noexcept {
    if (count > 64) return turn_words<kTake>(entry, buffer, begin, count);
    // Most runs lie within a word, or two; with no branch for which.
    constexpr Word kAll = kTake ? ~Word{0} : 0;
    const unsigned index = begin / 64, bit = begin % 64;
    const unsigned next = index + 1 < kLeafWords ? index + 1 : index;
    const Word run = ~Word{0} >> (64 - count);
    const Word range = run << bit, behind = run >> 1 >> (63 - bit);
    const Cell* const from = contents(buffer_of(entry));
    Cell* const to = words(buffer);
    const Word before = from[index].load(std::memory_order_acquire);
    const Word before_next = from[next].load(std::memory_order_acquire);
    const Word conflict = kTake ? (before & range) | (before_next & behind)
                                : (~before & range) | (~before_next & behind);
    if (conflict != 0) return Turned::conflict;
#pragma GCC unroll 8
    for (unsigned i = 0; i < kLeafWords; ++i) {
      to[i].store(from[i].load(std::memory_order_acquire), std::memory_order_release);
    }
    to[next].store(before_next ^ behind, std::memory_order_release);
    to[index].store(before ^ range, std::memory_order_release);
    return (before ^ range) == kAll && is_all(buffer, kAll) ? Turned::uniform : Turned::mixed;
  }
  void write_starts(std::uint32_t buffer, const Word* starts) noexcept {
    Cell* const to = words(buffer) + kLeafWords;
    for (unsigned i = 0; i < kLeafWords; ++i) to[i].store(starts[i], std::memory_order_release);
  }

  // ---------------------------------------------------------------- buffers

  /// A buffer that nobody uses. There always is one: Commit counts what each operation may hold.
  std::uint32_t take_buffer() noexcept {
    while (true) {
      // Acquire: pairs with the release in give_buffer(), for the link.
      std::uint64_t top = stack().load(std::memory_order_acquire);
      while (buffer_of(top) != 0) {
        const std::uint64_t link = words(buffer_of(top))[0].load(std::memory_order_relaxed);
        const std::uint64_t next = ((top | kBufferMask) + 1) | (link & kBufferMask);
        if (stack().compare_exchange_weak(top, next, std::memory_order_acquire,
                                          std::memory_order_acquire)) {
          return buffer_of(top);
        }
      }
      std::uint64_t fresh = never_used().load(std::memory_order_relaxed);
      while (fresh < buffer_count_) {
        if (never_used().compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed,
                                               std::memory_order_relaxed)) {
          construct(static_cast<std::uint32_t>(fresh));
          return static_cast<std::uint32_t>(fresh);
        }
      }
    }
  }
  void give_buffer(std::uint32_t buffer) noexcept {
    std::uint64_t top = stack().load(std::memory_order_relaxed);
    std::uint64_t next = 0;
    do {
      words(buffer)[0].store(top & kBufferMask, std::memory_order_release);
      next = ((top | kBufferMask) + 1) | buffer;
      // Release: the link, for take_buffer().
    } while (!stack().compare_exchange_weak(top, next, std::memory_order_release,
                                            std::memory_order_relaxed));
  }
  /// For validate(): calls visit(number) for each buffer of the stack, at most `limit`.
  template <class Visit>
  void for_each_spare(std::size_t limit, Visit&& visit) const noexcept {
    std::uint32_t at = buffer_of(stack().load(std::memory_order_acquire));
    for (; at != 0 && limit != 0; --limit) {
      visit(at);
      at = buffer_of(words(at)[0].load(std::memory_order_acquire));
    }
  }
  /// The first number that was never handed out.
  std::uint32_t fresh() const noexcept {
    return static_cast<std::uint32_t>(never_used().load(std::memory_order_acquire));
  }

 private:
  // The word behind word `index` of `leaf`, whose words are at `from`; 0 if nobody needs to know.
  [[gnu::always_inline]] Word word_behind(std::size_t leaf, unsigned index, const Cell* from,
                                          Word low, std::uint64_t* touched) const noexcept {
    ++*touched;
    if (index + 1 < kLeafWords) return ~from[index + 1].load(std::memory_order_acquire);
    if (static_cast<std::int64_t>(low) >= 0) return 0;
    *touched += 2;
    return free_word(entry(leaf + 1), 0);
  }
  // Any run in any leaf.
  template <bool kTake>
  [[gnu::noinline]] Turned turn_words(std::uint64_t entry, std::uint32_t buffer, unsigned begin,
                                      unsigned count) noexcept {
    const Cell* const from = contents(buffer_of(entry));
    Cell* const to = words(buffer);
    Word conflict = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < kLeafWords; ++i) {
      const Word range = range_in_word(i, begin, count);
      const Word before = from[i].load(std::memory_order_acquire);
      conflict |= (kTake ? before : ~before) & range;
      to[i].store(before ^ range, std::memory_order_release);
    }
    if (conflict != 0) return Turned::conflict;
    return is_all(buffer, kTake ? ~Word{0} : 0) ? Turned::uniform : Turned::mixed;
  }
  // The words of a buffer, of the first two too.
  const Cell* contents(std::uint32_t buffer) const noexcept {
    return buffer >= kFirstBuffer ? words(buffer) : kUniform[buffer];
  }
  [[gnu::noinline]] bool is_all(std::uint32_t buffer, Word value) const noexcept {
    const Cell* const from = words(buffer);
    Word differ = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < kLeafWords; ++i) {
      differ |= from[i].load(std::memory_order_relaxed) ^ value;
    }
    return differ == 0;
  }

  Cell* words(std::uint32_t buffer) const noexcept {
    return buffers_ + (std::size_t{buffer} - kFirstBuffer) * stride_;
  }
  // Cells begin their life when they are first handed out: what is never used is never touched.
  void construct(std::uint32_t buffer) noexcept {
    for (unsigned i = 0; i < stride_; ++i) ::new (static_cast<void*>(words(buffer) + i)) Cell(0);
  }
  Cell& stack() const noexcept {
    return entries_[leaves_ + 1];
  }
  Cell& never_used() const noexcept {
    return entries_[leaves_ + 2];
  }

  static constexpr Word kOnes = ~Word{0};
  static inline constinit const Cell kUniform[2][kLeafWords] = {
      {0, 0, 0, 0, 0, 0, 0, 0}, {kOnes, kOnes, kOnes, kOnes, kOnes, kOnes, kOnes, kOnes}};

  Cell* entries_ = nullptr;
  Cell* buffers_ = nullptr;
  std::size_t leaves_ = 0;
  std::uint32_t buffer_count_ = 0;  // one past the last number
  unsigned stride_ = kLeafWords;
};

}  // namespace mmkit::genalloc
