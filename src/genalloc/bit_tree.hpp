// SPDX-License-Identifier: MIT
//
// BitTree - a set of numbers in which a number may be that is gone, and none is missing.
//
//   level 1                        [.1.......]       a bit for each word below that is not empty,
//   level 0      [....1..] [.......] [1......]       or may be
//
//   word    63    56 55                    0
//          +--------+-----------------------+        the mark of who is about to take a bit out
//          |  mark  |      56 members       |
//          +--------+-----------------------+
//
// The hints of HintTree, one bit each: adding is raising, taking out is lowering. So the rules are
// the same. Who adds a number changes the leaf first, then looks at the word of every level: is the
// bit there and no mark, he leaves it; a mark he wipes away. Who takes one out has looked for what it
// stands for and not found it; he puts his mark into the word, makes sure that the pool did not
// change since he looked, and exchanges mark and bit for nothing. An adder who came in between
// has wiped the mark, and the last exchange fails.
//
// Several trees of one shape are laid out one after the other; a search may ask for the numbers that
// are in two of them.
// Units:      numbers below the shape's size
// Invariants: 1 when the pool rests, every number that has reason to be in the set is, on every level
//             2 bits past the size are 0
// Locking:    none
// Complexity: add O(log n), base 56; next O(log n) and one look a disappointment
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/mutant.hpp>
#include <new>

namespace mmkit::genalloc {

/// Where the words of a tree lie.
class BitTreeShape {
 public:
  static constexpr std::size_t kFan = 56;
  static constexpr unsigned kMaxLevels = 7;

  BitTreeShape() noexcept = default;
  explicit BitTreeShape(std::size_t size) noexcept : size_(size) {
    for (std::size_t bits = size;; bits = level_words_[top_++]) {
      offset_[top_] = words_;
      level_words_[top_] = bits == 0 ? 1 : divide_up(bits, kFan);
      words_ += level_words_[top_];
      if (level_words_[top_] == 1) return;
    }
  }
  std::size_t size() const noexcept { return size_; }
  std::size_t words() const noexcept { return words_; }
  unsigned top() const noexcept { return top_; }
  std::size_t level_words(unsigned level) const noexcept { return level_words_[level]; }
  std::size_t at(unsigned level, std::size_t word) const noexcept { return offset_[level] + word; }

 private:
  std::size_t size_ = 0;
  std::size_t words_ = 0;
  std::size_t offset_[kMaxLevels] = {};
  std::size_t level_words_[kMaxLevels] = {};
  unsigned top_ = 0;
};

template <class Sync>
class BitTree {
 public:
  using Cell = typename Sync::template Atomic<std::uint64_t>;
  static constexpr std::size_t kNone = ~std::size_t{0};
  static constexpr std::size_t kFan = BitTreeShape::kFan;
  static constexpr std::uint64_t kMembers = (std::uint64_t{1} << kFan) - 1;

  BitTree(const BitTreeShape& shape, Cell* cells) noexcept : shape_(shape), cells_(cells) {}

  /// Nothing in it, or everything.
  void format(bool full) noexcept {
    std::size_t bits = shape_.size();
    for (unsigned level = 0; level <= shape_.top(); ++level) {
      for (std::size_t word = 0; word < shape_.level_words(level); ++word) {
        const std::size_t here = bits - word * kFan < kFan ? bits - word * kFan : kFan;
        const std::uint64_t members = full && here != 0 ? kMembers >> (kFan - here) : 0;
        ::new (static_cast<void*>(cells_ + shape_.at(level, word))) Cell(members);
      }
      bits = shape_.level_words(level);
    }
  }

  /// Puts a number in, or sees that it is. After the leaf was changed, before the operation counts
  /// as done.
  void add(std::size_t number) noexcept {
    for (unsigned level = 0; level <= shape_.top(); ++level) {
      const std::size_t word = number / kFan;
      if (add_at(shape_.at(level, word), std::uint64_t{1} << (number - word * kFan))) return;
      number = word;
    }
  }
  /// The same in two sets.
  void add_to_both(BitTree other, std::size_t number) noexcept {
    bool here = false, there = false;
    for (unsigned level = 0; level <= shape_.top(); ++level) {
      const std::size_t word = number / kFan;
      const std::uint64_t bit = std::uint64_t{1} << (number - word * kFan);
      const std::size_t at = shape_.at(level, word);
      here = here || add_at(at, bit);
      there = there || other.add_at(at, bit);
      number = word;
    }
  }
  /// Whether there is nothing in it, at first glance. Acquire, as in every read.
  bool seems_empty() const noexcept { return load(shape_.top(), 0) == 0; }
  bool has(unsigned level, std::size_t number) const noexcept {
    return (load(level, number / kFan) >> (number % kFan) & 1) != 0;
  }

  /// Takes a number out, unless `still()` says that the pool changed since it was looked for, or
  /// somebody adds it meanwhile. May do nothing.
  template <class Still>
  void drop(std::size_t number, unsigned slot, const Still& still) noexcept {
    lower(0, number, slot, still);
  }

  /// The lowest number from `from` on that is in this set; kNone when there is none. Takes out what
  /// it finds too high above level 0. Adds to `*touched` the words it looked at.
  std::size_t next(std::size_t from, unsigned slot, std::uint64_t* touched) noexcept {
    return next_of<1>(*this, from, slot, touched);
  }
  /// The same of the numbers that are in `other` too, which has the same shape.
  std::size_t next_in_both(BitTree other, std::size_t from, unsigned slot,
                           std::uint64_t* touched) noexcept {
    return next_of<2>(other, from, slot, touched);
  }

 private:
  // Acquire: keeps the later look at the pool's head behind it.
  std::uint64_t load(unsigned level, std::size_t word) const noexcept {
    return cells_[shape_.at(level, word)].load(std::memory_order_acquire) & kMembers;
  }

  // Whether the levels above need no look; never, in the right program.
  bool add_at(std::size_t at, std::uint64_t bit) noexcept {
    Cell& cell = cells_[at];
    // Sequentially consistent: after the exchange that changed the leaf, before or after a mark.
    std::uint64_t seen = cell.load(std::memory_order_seq_cst);
    const bool early =
        MMKIT_MUTATE(MMKIT_MUTANT_genpool_add_ends_early, false, ((seen & kMembers) | bit) == seen);
    while (((seen & kMembers) | bit) != seen) {
      if (cell.compare_exchange_weak(seen, (seen & kMembers) | bit, std::memory_order_seq_cst,
                                     std::memory_order_seq_cst)) {
        break;
      }
    }
    return early;
  }

  template <unsigned kSets>
  std::size_t next_of(BitTree& other, std::size_t from, unsigned slot,
                      std::uint64_t* touched) noexcept {
    unsigned level = from == 0 ? shape_.top() : 0;
    std::size_t number = from;
    bool descended = false;
    while (true) {
      const std::size_t word = number / kFan;
      if (word >= shape_.level_words(level)) {
        if (level == shape_.top()) return kNone;
        number = word;
        ++level;
        continue;
      }
      *touched += kSets;
      const std::uint64_t here = load(level, word);
      const std::uint64_t there = kSets == 2 ? other.load(level, word) : here;
      const std::uint64_t found = here & there & ~std::uint64_t{0} << (number % kFan);
      if (found != 0) {
        number = word * kFan + static_cast<std::size_t>(std::countr_zero(found));
        if (level == 0) return number;
        --level;
        number *= kFan;
        descended = true;
        continue;
      }
      if (level == shape_.top()) return kNone;
      if (descended && here == 0) {
        lower_parent(level, word, slot);
      } else if (kSets == 2 && descended && there == 0) {
        other.lower_parent(level, word, slot);
      }
      descended = false;
      number = word + 1;
      ++level;
    }
  }

  // The word is the truth for its bit above, so no look at the pool is needed: but at the word, after
  // the mark.
  void lower_parent(unsigned level, std::size_t word, unsigned slot) noexcept {
    lower(level + 1, word, slot, [&]() noexcept {
      const Cell& cell = cells_[shape_.at(level, word)];
      return (cell.load(std::memory_order_seq_cst) & kMembers) == 0;
    });
  }
  template <class Sure>
  void lower(unsigned level, std::size_t number, unsigned slot, const Sure& sure) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (number % kFan);
    const std::uint64_t mark = MMKIT_MUTATE(MMKIT_MUTANT_genpool_drops_without_mark,
                                            std::uint64_t{slot + 1} << kFan, std::uint64_t{0});
    Cell& cell = cells_[shape_.at(level, number / kFan)];
    std::uint64_t seen = cell.load(std::memory_order_seq_cst);
    if ((seen & bit) == 0) return;
    if (!cell.compare_exchange_strong(seen, (seen & kMembers) | mark, std::memory_order_seq_cst,
                                      std::memory_order_seq_cst)) {
      return;
    }
    const std::uint64_t gone = sure() ? bit : 0;
    seen = cell.load(std::memory_order_seq_cst);
    while ((seen & ~kMembers) == mark) {
      if (cell.compare_exchange_weak(seen, seen & kMembers & ~gone, std::memory_order_seq_cst,
                                     std::memory_order_seq_cst)) {
        return;
      }
    }
  }

  const BitTreeShape& shape_;
  Cell* const cells_;
};

}  // namespace mmkit::genalloc
