// SPDX-License-Identifier: MIT
//
// LengthIndex - the hint for best fit: which lengths of free runs there are, and where each may be.
//
//   lengths     1 2 3 . . .                         16383       a set of the lengths there may be
//
//   rows        for each a set of leaves in which such a run may begin
//     exact     length 1 ... 40
//     low       length % 40        } a run longer than that is in one row of each kind, and a search
//     high      length / 40 % 24   } asks for the leaves that are in both
//     longest   16384 or more
//     unknown   leaves nobody has looked into
//
// Best fit is then the lowest length that is in the set and large enough, in the leftmost leaf that
// has it. What two rows have in common is that length, as a rule: only lengths 960 apart share
// both, and a leaf in which two runs begin may be in the rows of a third. So a search for one of
// thousands of nearly equal runs looks at a few leaves. Runs of the longest kind are few.
//
// A chunk whose index is not live is all unknown, and becomes known leaf by leaf at the first search.
// Units:      granules
// Invariants: BitTree's, of every set
// Locking:    none
// Complexity: begins() O(log n); memory 15 bytes a leaf and 2.4 KiB
#pragma once

#include <cstddef>
#include <cstdint>

#include "genalloc/bit_tree.hpp"

namespace mmkit::genalloc {

/// Which rows a run is in; rows by number.
struct LengthRows {
  static constexpr std::size_t kExact = 40;       ///< lengths that have a row of their own
  static constexpr std::size_t kLongest = 16384;  ///< from here on all lengths share one
  static constexpr std::size_t kLow = 40;
  static constexpr std::size_t kHigh = 24;
  static constexpr std::size_t kFirstLow = kExact;
  static constexpr std::size_t kFirstHigh = kFirstLow + kLow;
  static constexpr std::size_t kLongestRow = kFirstHigh + kHigh;
  static constexpr std::size_t kUnknownRow = kLongestRow + 1;
  static constexpr std::size_t kRows = kUnknownRow + 1;

  static constexpr std::size_t exact(std::size_t length) noexcept { return length - 1; }
  static constexpr std::size_t low(std::size_t length) noexcept {
    return kFirstLow + length % kLow;
  }
  static constexpr std::size_t high(std::size_t length) noexcept {
    return kFirstHigh + length / kLow % kHigh;
  }
};

template <class Sync>
class LengthIndex {
 public:
  using Rows = LengthRows;
  using Set = BitTree<Sync>;
  using Cell = typename Set::Cell;

  static std::size_t words_for(std::size_t leaves, std::size_t granules) noexcept {
    return BitTreeShape(leaves).words() * Rows::kRows + BitTreeShape(lengths_of(granules)).words();
  }
  void attach(Cell* words, std::size_t leaves, std::size_t granules) noexcept {
    leaves_ = BitTreeShape(leaves);
    lengths_ = BitTreeShape(lengths_of(granules));
    rows_at_ = words;
    lengths_at_ = words + leaves_.words() * Rows::kRows;
  }
  /// A chunk that is all free; live, or unknown.
  void format(bool live, std::size_t granules) noexcept {
    for (std::size_t number = 0; number < Rows::kRows; ++number) {
      row(number).format(/*full=*/!live && number == Rows::kUnknownRow);
    }
    lengths().format(/*full=*/false);
    if (live && granules != 0) begins(0, granules);
  }

  /// The lengths below LengthRows::kLongest.
  Set lengths() noexcept { return Set(lengths_, lengths_at_); }
  const Set lengths() const noexcept { return Set(lengths_, lengths_at_); }
  Set row(std::size_t number) noexcept { return Set(leaves_, rows_at_ + number * leaves_.words()); }

  /// A run begins in the leaf. After the leaf was changed.
  void begins(std::size_t leaf, std::size_t length) noexcept {
    if (length <= Rows::kExact) {
      row(Rows::exact(length)).add(leaf);
    } else if (length < Rows::kLongest) {
      row(Rows::low(length)).add_to_both(row(Rows::high(length)), leaf);
    } else {
      row(Rows::kLongestRow).add(leaf);
      return;
    }
    lengths().add(length);
  }
  /// Whether a run that begins in the leaf would be found.
  bool admits(std::size_t leaf, std::size_t length) noexcept {
    if (in(Rows::kUnknownRow, leaf)) return true;
    if (length >= Rows::kLongest) return in(Rows::kLongestRow, leaf);
    if (!everywhere(lengths(), lengths_, length)) return false;
    if (length <= Rows::kExact) return in(Rows::exact(length), leaf);
    return in(Rows::low(length), leaf) && in(Rows::high(length), leaf);
  }

 private:
  // 0 is one of them, and no run has it.
  static std::size_t lengths_of(std::size_t granules) noexcept {
    return granules < Rows::kLongest ? granules + 1 : Rows::kLongest;
  }
  bool in(std::size_t number, std::size_t leaf) noexcept {
    return everywhere(row(number), leaves_, leaf);
  }
  static bool everywhere(const Set& set, const BitTreeShape& shape, std::size_t number) noexcept {
    for (unsigned level = 0; level <= shape.top(); ++level, number /= Set::kFan) {
      if (!set.has(level, number)) return false;
    }
    return true;
  }

  BitTreeShape leaves_, lengths_;
  Cell* rows_at_ = nullptr;
  Cell* lengths_at_ = nullptr;
};

}  // namespace mmkit::genalloc
