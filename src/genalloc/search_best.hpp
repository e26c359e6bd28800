// SPDX-License-Identifier: MIT
//
// Search, best fit - the shortest run that is long enough, of several the lowest.
//
// The index says which length comes next, and in which leaves it may be (length_index.hpp). If none
// of them has such a run, the length is taken out of the index, and the next one is tried. Of the
// longest runs, which are few, all are compared.
#pragma once

#include <mmkit/base/mutant.hpp>

#include "genalloc/search.hpp"

namespace mmkit::genalloc {

template <class Sync, class Still>
Verdict Search<Sync, Still>::best(std::size_t run, Place* place) noexcept {
  if (run > chunk_.granules()) return Verdict::none;
  if (!chunk_.lengths().row(Rows::kUnknownRow).seems_empty() && !make_known()) {
    return Verdict::moved;
  }
  auto lengths = chunk_.lengths().lengths();
  for (std::size_t length = run; length < Rows::kLongest; ++length) {
    length = lengths.next(length, slot_, touched_);
    if (length == BitTree<Sync>::kNone) break;
    const Verdict verdict = length <= Rows::kExact
                                ? best_of_exact(static_cast<unsigned>(length), place)
                                : best_of_length(length, place);
    if (verdict == Verdict::found) place->right = length - run;
    if (verdict != Verdict::none) return verdict;
    lengths.drop(length, slot_, still_);
    if (!still_()) return Verdict::moved;
  }
  const Verdict verdict = best_of_longest(run, place);
  if (verdict == Verdict::found) place->right -= run;  // so far the length of the whole run
  return verdict;
}

// Looks into leaves nobody has looked into since the index came to life. False when the pool moved.
template <class Sync, class Still>
bool Search<Sync, Still>::make_known() noexcept {
  auto unknown = chunk_.lengths().row(Rows::kUnknownRow);
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = unknown.next(leaf, slot_, touched_);
    if (leaf == BitTree<Sync>::kNone) return true;
    const std::size_t base = leaf * kLeafBits;
    read(leaf).for_each_start(1, continued(leaf), behind(leaf), [&](unsigned at) noexcept {
      const std::size_t length = chunk_.run_after(base + at, Rows::kLongest, touched_);
      if (length != 0) chunk_.lengths().begins(leaf, length);  // an untrue one does no harm
      return true;
    });
    unknown.drop(leaf, slot_, still_);
    if (!still_()) return false;
  }
}

template <class Sync, class Still>
Verdict Search<Sync, Still>::best_of_exact(unsigned run, Place* place) noexcept {
  auto row = chunk_.lengths().row(Rows::exact(run));
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = row.next(leaf, slot_, touched_);
    if (leaf == BitTree<Sync>::kNone) return Verdict::none;
    const unsigned at = chunk_.leaves().first_exact(leaf, run, touched_);
    if (at != kLeafBits) {
      *place = {leaf * kLeafBits + at, 0};
      return Verdict::found;
    }
    row.drop(leaf, slot_, still_);
    if (!still_()) return Verdict::moved;
  }
}

template <class Sync, class Still>
Verdict Search<Sync, Still>::best_of_length(std::size_t run, Place* place) noexcept {
  auto low = chunk_.lengths().row(Rows::low(run)), high = chunk_.lengths().row(Rows::high(run));
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = low.next_in_both(high, leaf, slot_, touched_);
    if (leaf == BitTree<Sync>::kNone) return Verdict::none;
    const std::size_t base = leaf * kLeafBits;
    if (run < kWindow) {
      const unsigned at = chunk_.leaves().first_exact(leaf, static_cast<unsigned>(run), touched_);
      if (at != kLeafBits) {
        *place = {base + at, 0};
        return Verdict::found;
      }
    }
    bool found = false, any_low = false, any_high = false;
    read(leaf).for_each_start(
        Rows::kExact + 1, continued(leaf), behind(leaf), [&](unsigned at) noexcept {
          const std::size_t length = chunk_.run_after(base + at, Rows::kLongest, touched_);
          if (length <= Rows::kExact || length >= Rows::kLongest) return true;
          any_low = any_low || Rows::low(length) == Rows::low(run);
          any_high = any_high || Rows::high(length) == Rows::high(run);
          found = length == run;
          if (found) *place = {base + at, 0};
          return !found;
        });
    if (found) return Verdict::found;
    if (!any_low) low.drop(leaf, slot_, still_);
    if (!any_high) high.drop(leaf, slot_, still_);
    if (!still_()) return Verdict::moved;
  }
}

template <class Sync, class Still>
Verdict Search<Sync, Still>::best_of_longest(std::size_t run, Place* place) noexcept {
  auto row = chunk_.lengths().row(Rows::kLongestRow);
  Shortest shortest;
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = row.next(leaf, slot_, touched_);
    if (leaf == BitTree<Sync>::kNone) break;
    if (!longest_in_leaf(leaf, run, &shortest)) row.drop(leaf, slot_, still_);
    if (shortest.length == run) break;
    if (!still_()) return Verdict::moved;
  }
  if (shortest.length == Place::kUnknown) return Verdict::none;
  *place = {shortest.granule, 0, shortest.length};
  return Verdict::found;
}

// Whether one of the longest runs begins in the leaf; it becomes *shortest if it has at least `run`
// granules and is shorter.
template <class Sync, class Still>
bool Search<Sync, Still>::longest_in_leaf(std::size_t leaf, std::size_t run,
                                          Shortest* shortest) const noexcept {
  if (!chunk_.leaves().last_free(leaf)) return false;
  // What is left of a long run is long itself for hints of either kind, or known exactly.
  constexpr std::size_t kLong = MMKIT_MUTATE(MMKIT_MUTANT_genpool_long_is_not_long_enough,
                                             RunBound::kMarks, LengthRows::kLongest);
  const std::size_t end = (leaf + 1) * kLeafBits;
  const Leaf copy = read(leaf);
  if (copy.suffix() == kLeafBits && continued(leaf)) return false;
  const std::size_t enough = run + kLong;
  const std::size_t here = copy.suffix() + chunk_.run_after(end, enough, touched_);
  if (here < Rows::kLongest) return false;
  const std::size_t granule = end - copy.suffix();
  if (here < run) return true;
  if (here >= enough) {
    consider_long(granule, here, shortest);
  } else if (here < shortest->length) {
    *shortest = {granule, here, false};
  }
  return true;
}

// As a rule there is one such run, the rest of the chunk, and nobody asks how long it is.
template <class Sync, class Still>
void Search<Sync, Still>::consider_long(std::size_t granule, std::size_t at_least,
                                        Shortest* shortest) const noexcept {
  if (shortest->length == Place::kUnknown) {
    *shortest = {granule, at_least, true};
    return;
  }
  if (!shortest->open && shortest->length <= at_least) return;
  if (shortest->open) {
    shortest->length = chunk_.run_after(shortest->granule, chunk_.granules(), touched_);
    shortest->open = false;
  }
  const std::size_t length = chunk_.run_after(granule, chunk_.granules(), touched_);
  if (length < shortest->length) *shortest = {granule, length, false};
}

}  // namespace mmkit::genalloc
