// SPDX-License-Identifier: MIT
//
// HintTree - for each leaf something that is never too low, and the same above it for groups.
//
//   level 2             [ . . ]                     each cell the join (maximum, or union) of the
//   level 1     [ . . . . . . . . ] ...             group below it, or more
//   level 0   [ one hint a leaf ................]
//
// A hint promises that what it denies is not there; what it admits may be gone. So whoever takes
// granules writes no hint. Whoever frees them raises hints; whoever looked where a hint sent him
// and found nothing lowers it. Each raise pays for one disappointment: that is the amortised
// O(log n) of a search.
//
// Two operations with no lock between them must not lose a raise:
//
//   raise:  change the leaf;  then look at the hint: enough already? leave it, else raise it
//   lower:  look at the leaf, compute;  put my mark into the hint;  make sure that the pool did not
//           change since before the look;  exchange mark for result
//
// Both go by sequentially consistent exchanges first and loads second. A change that the lowerer did
// not see comes after his last look at the pool, so its raiser sees the mark, or what the mark was
// exchanged for; and what he does to a mark makes the lowerer's last exchange fail. A mark reads as
// "everything", so it does no harm when its owner never comes back; another searcher may replace it
// by his own. A raise goes to every level, however high the hints are on the way: who raised the
// lower one may be asleep before the upper one.
//
// Kind says what a hint is: run_bounds.hpp.
// Units:      lanes: hints by number within a level
// Invariants: 1 when the pool rests, no hint denies what is there  2 lanes past the end are 0
// Locking:    none
// Complexity: raise O(log n); a search O(log n) and one look a disappointment. The top is up to two
//             groups: one level less is worth more than one comparison
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/mutant.hpp>
#include <new>

namespace mmkit::genalloc {

inline constexpr std::size_t kNoLeaf = ~std::size_t{0};

template <class Sync, class Kind>
class HintTree {
 public:
  using Cell = typename Sync::template Atomic<std::uint64_t>;
  using Hint = std::uint64_t;
  static constexpr std::size_t kFan = Kind::kFan;
  static constexpr std::size_t kLanes = Kind::kLanes;  // of a word
  static constexpr std::size_t kTopLanes = 2 * kFan;
  static constexpr unsigned kMaxLevels = 8;

  /// Words that the tree over so many leaves needs.
  static std::size_t words_for(std::size_t leaves) noexcept {
    std::size_t words = 0;
    for (std::size_t lanes = leaves;; lanes = divide_up(lanes, kFan)) {
      words += divide_up(lanes, kFan) * (kFan / kLanes);
      if (lanes <= kTopLanes) return words;
    }
  }
  void attach(Cell* words, std::size_t leaves) noexcept {
    top_ = 0;
    for (std::size_t lanes = leaves;; lanes = divide_up(lanes, kFan)) {
      level_[top_] = words;
      lanes_[top_] = lanes;
      words += divide_up(lanes, kFan) * (kFan / kLanes);
      if (lanes <= kTopLanes) return;
      ++top_;
    }
  }
  /// Leaf 0 and all above it `first`, every other one `others`.
  void format(Hint first, Hint others) noexcept {
    for (unsigned level = 0; level <= top_; ++level) {
      const std::size_t padded = divide_up(lanes_[level], kFan) * kFan;
      for (std::size_t lane = 0; lane < padded; lane += kLanes) {
        std::uint64_t word = 0;
        for (std::size_t i = 0; i < kLanes; ++i) {
          if (lane + i >= lanes_[level]) break;
          word = Kind::with(word, i, Kind::join(lane + i == 0 ? first : others, others));
        }
        ::new (static_cast<void*>(level_[level] + lane / kLanes)) Cell(word);
      }
    }
  }

  /// What a hint admits; a mark admits whatever its kind says.
  Hint hint(unsigned level, std::size_t lane) const noexcept {
    return Kind::admitted(Kind::at(load(level, lane), lane % kLanes));
  }
  unsigned top() const noexcept { return top_; }
  std::size_t lanes(unsigned level) const noexcept { return lanes_[level]; }
  /// The join of everything.
  Hint all() const noexcept {
    Hint joined = 0;
    for (std::size_t lane = 0; lane < lanes_[top_]; ++lane) {
      joined = Kind::join(joined, hint(top_, lane));
    }
    return joined;
  }

  /// The lowest leaf from `from` on whose hint admits `want`; kNoLeaf when there is none. Lowers
  /// what it finds too high above the leaves, with the mark of `slot`. Adds to `*touched` the words
  /// it looked at.
  [[gnu::always_inline]] std::size_t next_leaf(std::size_t from, Hint want, unsigned slot,
                                               std::uint64_t* touched) noexcept {
    // As a rule it is the first group of the top that has it, and each group below.
    if (from == 0) {
      unsigned level = top_;
      std::size_t found = find_in_group(level, 0, want);
      while (found != kNoLeaf && level != 0) found = find_in_group(--level, found * kFan, want);
      *touched += (top_ - level + 1) * (kFan / kLanes);
      if (found != kNoLeaf) return found;
    }
    return look_further(from, want, slot, touched);
  }

  /// Makes the hint of `leaf`, and everything above it, admit `value` too. After the leaf was
  /// changed, before the operation counts as done.
  [[gnu::always_inline]] void raise(std::size_t leaf, Hint value) noexcept {
    std::size_t lane = leaf;
    for (unsigned level = 0; level <= top_; ++level, lane /= kFan) {
      Cell& cell = level_[level][lane / kLanes];
      const std::uint64_t word = cell.load(std::memory_order_seq_cst);
      const bool suffices = Kind::suffices(word, lane % kLanes, value);
      if (!suffices) raise_cell(cell, word, lane % kLanes, value);
      if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_raise_ends_early, false, suffices)) return;
    }
  }

  /// Makes the hint of `leaf` `value`, unless `sure()`, asked after the mark, says that the pool
  /// changed since `value` was found, or somebody raises it meanwhile. May do nothing.
  template <class Sure>
  void lower(std::size_t leaf, Hint value, unsigned slot, const Sure& sure) noexcept {
    lower_at(0, leaf, slot, [&](Hint before) noexcept { return sure() ? value : before; });
  }

 private:
  std::uint64_t load(unsigned level, std::size_t lane) const noexcept {
    // Acquire: keeps the later look at the pool's head behind it.
    return level_[level][lane / kLanes].load(std::memory_order_acquire);
  }

  std::size_t find_in_group(unsigned level, std::size_t first, Hint want) const noexcept {
    const std::size_t group = first / kFan;
    const std::size_t lane = Kind::template find<Sync>(level_[level] + group * (kFan / kLanes),
                                                       static_cast<unsigned>(first % kFan), want);
    return lane == kFan ? kNoLeaf : group * kFan + lane;
  }

  static void raise_cell(Cell& cell, std::uint64_t word, std::size_t at, Hint value) noexcept {
    while (!Kind::suffices(word, at, value)) {
      if (cell.compare_exchange_weak(word, Kind::raised(word, at, value), std::memory_order_seq_cst,
                                     std::memory_order_seq_cst)) {
        return;
      }
    }
  }
  template <class Value>
  void lower_at(unsigned level, std::size_t lane, unsigned slot, const Value& value) noexcept {
    Cell& cell = level_[level][lane / kLanes];
    const std::size_t at = lane % kLanes;
    std::uint64_t word = cell.load(std::memory_order_seq_cst);
    const Hint before = Kind::at(word, at);
    const Hint mark =
        MMKIT_MUTATE(MMKIT_MUTANT_genpool_lowers_without_mark, Kind::marked(before, slot), before);
    if (!cell.compare_exchange_strong(word, Kind::with(word, at, mark), std::memory_order_seq_cst,
                                      std::memory_order_seq_cst)) {
      return;
    }
    const Hint after = value(Kind::admitted(before));
    word = cell.load(std::memory_order_seq_cst);
    while (Kind::at(word, at) == mark) {
      if (cell.compare_exchange_weak(word, Kind::with(word, at, after), std::memory_order_seq_cst,
                                     std::memory_order_seq_cst)) {
        return;
      }
    }
  }

  [[gnu::noinline]] std::size_t look_further(std::size_t from, Hint want, unsigned slot,
                                             std::uint64_t* touched) noexcept {
    unsigned level = from == 0 ? top_ : 0;
    std::size_t lane = from;
    while (true) {
      // A whole group is asked for by way of its parent.
      while (level < top_ && lane % kFan == 0) {
        lane /= kFan;
        ++level;
      }
      *touched += kFan / kLanes;
      std::size_t found = lane < lanes_[level] ? find_in_group(level, lane, want) : kNoLeaf;
      if (found == kNoLeaf) {
        lane = lane / kFan + 1;
        if (level != top_) {
          ++level;
        } else if ((lane *= kFan) >= lanes_[level]) {
          return kNoLeaf;
        }
        continue;
      }
      while (level != 0) {
        *touched += kFan / kLanes;
        const std::size_t below = find_in_group(level - 1, found * kFan, want);
        if (below == kNoLeaf) break;
        found = below;
        --level;
      }
      if (level == 0) return found;
      lower_to_group(level, found, slot);
      lane = found + 1;
    }
  }

  // The children are the truth for a parent, so no look at the pool is needed: but at the children,
  // after the mark.
  void lower_to_group(unsigned level, std::size_t lane, unsigned slot) noexcept {
    lower_at(level, lane, slot, [&](Hint) noexcept {
      Hint joined = 0;
      for (std::size_t child = lane * kFan; child < (lane + 1) * kFan; ++child) {
        if (child >= lanes_[level - 1]) break;
        const Cell& cell = level_[level - 1][child / kLanes];
        const std::uint64_t word = cell.load(std::memory_order_seq_cst);
        joined = Kind::join(joined, Kind::admitted(Kind::at(word, child % kLanes)));
      }
      return joined;
    });
  }

  Cell* level_[kMaxLevels] = {};
  std::size_t lanes_[kMaxLevels] = {};
  unsigned top_ = 0;
};

}  // namespace mmkit::genalloc
