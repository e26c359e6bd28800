// SPDX-License-Identifier: MIT
//
// Search, best fit - the shortest run that is long enough, of several the lowest.
//
// The lowest class that is set anywhere and large enough says where to look. A class of one length:
// the leftmost leaf that has it. A class of several: every leaf that has it, until a run fits
// exactly; that is what long runs cost when there are thousands of nearly one length.
#pragma once

#include <mmkit/base/mutant.hpp>

#include "genalloc/search.hpp"

namespace mmkit::genalloc {

template <class Sync, class Still>
Verdict Search<Sync, Still>::best(std::size_t run, Place* place) noexcept {
  if (run > chunk_.granules()) return Verdict::none;
  unsigned from = RunClasses::class_of(run);
  while (true) {
    const std::uint64_t classes = chunk_.classes().all() & RunClasses::kAll << from;
    *touched_ += chunk_.classes().lanes(chunk_.classes().top());
    if (classes == 0) return Verdict::none;
    from = static_cast<unsigned>(std::countr_zero(classes));
    const Verdict verdict = from < RunClasses::kExact ? best_of_length(from + 1, place)
                                                      : best_of_class(from, run, place);
    if (verdict == Verdict::found) place->right -= run;  // so far the length of the whole run
    if (verdict != Verdict::none) return verdict;
    if (++from == RunClasses::kClasses) return Verdict::none;
  }
}

template <class Sync, class Still>
Verdict Search<Sync, Still>::best_of_length(unsigned run, Place* place) noexcept {
  const std::uint64_t want = RunClasses::of(run);
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = chunk_.classes().next_leaf(leaf, want, slot_, touched_);
    if (leaf == kNoLeaf) return Verdict::none;
    std::size_t granule = 0;
    if (exact_in_leaf(leaf, run, &granule)) {
      *place = {granule, 0, run};
      return Verdict::found;
    }
    drop_class(leaf, RunClasses::class_of(run));
    if (!still_()) return Verdict::moved;
  }
}

template <class Sync, class Still>
bool Search<Sync, Still>::exact_in_leaf(std::size_t leaf, unsigned run,
                                        std::size_t* granule) const noexcept {
  const unsigned at = read(leaf).first_exact(run, continued(leaf), behind(leaf));
  *granule = leaf * kLeafBits + at;
  return at != kLeafBits;
}

template <class Sync, class Still>
Verdict Search<Sync, Still>::best_of_class(unsigned length_class, std::size_t run,
                                           Place* place) noexcept {
  Shortest shortest;
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = chunk_.classes().next_leaf(leaf, std::uint64_t{1} << length_class, slot_, touched_);
    if (leaf == kNoLeaf) break;
    if (!shortest_in_leaf(leaf, length_class, run, &shortest)) drop_class(leaf, length_class);
    if (shortest.length == run) break;
    if (!still_()) return Verdict::moved;
  }
  if (shortest.length == Place::kUnknown) return Verdict::none;
  *place = {shortest.granule, 0, shortest.length};
  return Verdict::found;
}

// Whether a run of the class begins in the leaf; it becomes *shortest if it has at least `run`
// granules and is shorter.
template <class Sync, class Still>
bool Search<Sync, Still>::shortest_in_leaf(std::size_t leaf, unsigned length_class, std::size_t run,
                                           Shortest* shortest) const noexcept {
  const std::size_t base = leaf * kLeafBits;
  const bool last_class = length_class + 1 == RunClasses::kClasses;
  // What is left of a long run is long itself for hints of either kind, or known exactly.
  constexpr std::size_t kLong = MMKIT_MUTATE(MMKIT_MUTANT_genpool_long_is_not_long_enough,
                                             RunBound::kMarks, RunClasses::kLongest);
  const std::size_t enough = last_class ? run + kLong : RunClasses::kLongest;
  bool any = false;
  // Runs of these classes have more than kExact granules.
  read(leaf).for_each_start(
      RunClasses::kExact + 1, continued(leaf), behind(leaf), [&](unsigned at) noexcept {
        const std::size_t here = chunk_.run_after(base + at, enough, touched_);
        if (here == 0 || RunClasses::class_of(here) != length_class) return true;
        any = true;
        if (here < run) return true;
        if (last_class && here >= enough) {
          consider_long(base + at, here, shortest);
        } else if (here < shortest->length) {
          *shortest = {base + at, here, false};
        }
        return shortest->length != run;
      });
  return any;
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

template <class Sync, class Still>
bool Search<Sync, Still>::has_class(std::size_t leaf, unsigned length_class) const noexcept {
  std::size_t granule = 0;
  Shortest shortest;
  return length_class < RunClasses::kExact ? exact_in_leaf(leaf, length_class + 1, &granule)
                                           : shortest_in_leaf(leaf, length_class, 0, &shortest);
}

template <class Sync, class Still>
void Search<Sync, Still>::drop_class(std::size_t leaf, unsigned length_class) noexcept {
  auto& classes = chunk_.classes();
  const Seen mark = classes.mark(0, leaf, slot_);
  if (!mark.set) return;
  const std::uint64_t before = RunClasses::admitted(mark.before);
  const bool gone = !has_class(leaf, length_class);
  const bool sound = gone && still_();
  classes.settle(0, leaf, mark, sound ? before & ~(std::uint64_t{1} << length_class) : before);
}

}  // namespace mmkit::genalloc
