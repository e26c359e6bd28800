// SPDX-License-Identifier: MIT
//
// Search - where in a chunk a run of granules goes, by each policy.
//
// A search reads and publishes nothing. It runs under a `head` of the pool (commit.hpp) and is true
// if that head still stands at the end; what it finds under a head that moved is thrown away, so
// every loop here is bounded and every index safe whatever the words say. The one thing it writes
// are hints, lowered where they led nowhere (hint_tree.hpp). Bodies of best fit: search_best.hpp.
//
// A run belongs to the leaf in which it begins. So first fit asks for the leftmost leaf in which a
// run may begin that is long enough, looks there, and goes on to the next if it was misled.
// Units: granules
#pragma once

#include <cstddef>
#include <cstdint>

#include "genalloc/chunk.hpp"
#include "genalloc/fit_access.hpp"

namespace mmkit::genalloc {

enum class Verdict { found, none, moved };

/// Where a run goes, and the free granules beside it, as far as the search has seen them.
struct Place {
  static constexpr std::size_t kUnknown = ~std::size_t{0};
  std::size_t granule = 0;
  std::size_t left = kUnknown;   ///< free granules just below
  std::size_t right = kUnknown;  ///< just behind; if long, at least so many
};

/// One search in one chunk. `still()` says whether the pool's head stands.
template <class Sync, class Still>
class Search {
 public:
  Search(Chunk<Sync>& chunk, unsigned slot, const Still& still, std::uint64_t* touched) noexcept
      : chunk_(chunk), slot_(slot), still_(still), touched_(touched) {}

  [[gnu::always_inline]] Verdict first(std::size_t run, std::size_t from_leaf, std::size_t end_leaf,
                                       Place* place) noexcept;
  /// The lowest place where (granule + offset) is a multiple of `align`, a power of two.
  [[gnu::noinline]] Verdict aligned(std::size_t run, std::size_t align, std::size_t offset,
                                    Place* place) noexcept;
  [[gnu::noinline]] Verdict best(std::size_t run, Place* place) noexcept;
  [[gnu::noinline]] Verdict fixed(std::size_t run, std::size_t granule, Place* place) noexcept {
    if (run > chunk_.granules() || granule > chunk_.granules() - run) return Verdict::none;
    if (chunk_.run_after(granule, run, touched_) < run) return Verdict::none;
    *place = {granule};
    return Verdict::found;
  }
  [[gnu::noinline]] Verdict custom(std::size_t run, SearchFn search, const void* data,
                                   Place* place) noexcept {
    const BitmapView view = mmkit::detail::BitmapSource::view(chunk_);
    const std::size_t at = search(view, 0, run, data, chunk_.start());
    return at >= chunk_.granules() ? Verdict::none : fixed(run, at, place);
  }

  /// The longest run of the chunk; it may be read while the pool changes, and then means little.
  std::size_t longest() noexcept;

 private:
  static constexpr unsigned kWindow = kWindowBits;
  using Rows = LengthRows;

  // The first word of the leaf behind: what a window at the end of a leaf looks into.
  auto behind(std::size_t leaf) const noexcept {
    return [this, leaf]() noexcept {
      *touched_ += 2;
      return chunk_.leaves().free_word(chunk_.leaves().entry(leaf + 1), 0);
    };
  }
  Leaf read(std::size_t leaf) const noexcept {
    Leaf copy;
    chunk_.leaves().copy(chunk_.leaves().entry(leaf), &copy);
    *touched_ += 1 + kLeafWords;
    return copy;
  }
  // Whether a run that lies at the leaf's first granule began before it.
  bool continued(std::size_t leaf) const noexcept {
    *touched_ += 2;
    return leaf != 0 && chunk_.leaves().last_free(leaf - 1);
  }

  [[gnu::always_inline]] std::size_t first_in_leaf(std::size_t leaf,
                                                   std::size_t run) const noexcept;
  [[gnu::noinline]] std::size_t first_long_in_leaf(std::size_t leaf,
                                                   std::size_t run) const noexcept;
  std::size_t bound_of_leaf(std::size_t leaf, std::size_t enough) const noexcept;
  [[gnu::noinline]] void lower_bound(std::size_t leaf) noexcept;

  [[gnu::noinline]] bool make_known() noexcept;
  Verdict best_of_exact(unsigned run, Place* place) noexcept;
  Verdict best_of_length(std::size_t run, Place* place) noexcept;
  Verdict best_of_longest(std::size_t run, Place* place) noexcept;
  // The best run so far. Of one that is open only is known that it is at least so long: enough,
  // unless there is another such one to compare it with.
  struct Shortest {
    std::size_t granule = 0;
    std::size_t length = Place::kUnknown;
    bool open = false;
  };
  bool longest_in_leaf(std::size_t leaf, std::size_t run, Shortest* shortest) const noexcept;
  void consider_long(std::size_t granule, std::size_t at_least, Shortest* shortest) const noexcept;

  Chunk<Sync>& chunk_;
  const unsigned slot_;
  const Still& still_;
  std::uint64_t* const touched_;
};

// ---------------------------------------------------------------- first fit

template <class Sync, class Still>
inline Verdict Search<Sync, Still>::first(std::size_t run, std::size_t from_leaf,
                                          std::size_t end_leaf, Place* place) noexcept {
  if (run > chunk_.granules()) return Verdict::none;
  const std::uint64_t want = RunBound::wanted(run);
  std::size_t leaf = from_leaf;
  while ((leaf = chunk_.bounds().next_leaf(leaf, want, slot_, touched_)) < end_leaf) {
    const std::size_t granule = first_in_leaf(leaf, run);
    if (granule < chunk_.granules()) {
      *place = {granule, 0};
      return Verdict::found;
    }
    lower_bound(leaf);
    if (!still_()) return Verdict::moved;
    ++leaf;
  }
  return Verdict::none;
}

template <class Sync, class Still>
inline std::size_t Search<Sync, Still>::first_in_leaf(std::size_t leaf,
                                                      std::size_t run) const noexcept {
  if (run > kWindow) return first_long_in_leaf(leaf, run);
  const unsigned at = chunk_.leaves().first_of(leaf, static_cast<unsigned>(run), touched_);
  return at == kLeafBits ? Place::kUnknown : leaf * kLeafBits + at;
}

template <class Sync, class Still>
std::size_t Search<Sync, Still>::first_long_in_leaf(std::size_t leaf,
                                                    std::size_t run) const noexcept {
  const std::size_t base = leaf * kLeafBits;
  const Leaf copy = read(leaf);
  std::size_t found = Place::kUnknown;
  copy.for_each_start(kWindow, continued(leaf), behind(leaf), [&](unsigned at) noexcept {
    if (chunk_.run_after(base + at, run, touched_) < run) return true;
    found = base + at;
    return false;
  });
  return found;
}

template <class Sync, class Still>
Verdict Search<Sync, Still>::aligned(std::size_t run, std::size_t align, std::size_t offset,
                                     Place* place) noexcept {
  if (run > chunk_.granules()) return Verdict::none;
  const std::size_t last = chunk_.granules() - run;  // the last place there could be
  const std::uint64_t want = RunBound::wanted(run);
  const unsigned window = run < kWindow ? static_cast<unsigned>(run) : kWindow;
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = chunk_.bounds().next_leaf(leaf, want, slot_, touched_);
    if (leaf == kNoLeaf) return Verdict::none;
    const std::size_t base = leaf * kLeafBits;
    bool misled = true, found = false;
    const Leaf copy = read(leaf);
    copy.for_each_start(window, continued(leaf), behind(leaf), [&](unsigned at) noexcept {
      const std::size_t begin = base + at;
      const std::size_t skip = (0 - (begin + offset)) & (align - 1);
      if (begin > last || skip > last - begin) {
        misled = false;  // as far as is known
        return true;
      }
      const std::size_t length = chunk_.run_after(begin, skip + run, touched_);
      if (length >= run) misled = false;
      if (length < skip + run) return true;
      *place = {begin + skip, skip};
      found = true;
      return false;
    });
    if (found) return Verdict::found;
    if (misled) lower_bound(leaf);
    if (!still_()) return Verdict::moved;
  }
}

// The longest run that begins in the leaf; may stop at `enough`.
template <class Sync, class Still>
std::size_t Search<Sync, Still>::bound_of_leaf(std::size_t leaf,
                                               std::size_t enough) const noexcept {
  Leaf copy = read(leaf);
  if (continued(leaf)) copy.clear_prefix(copy.prefix());
  std::size_t longest = copy.longest();
  if (copy.last_free()) {
    const std::size_t end = (leaf + 1) * kLeafBits;
    const std::size_t open = copy.suffix() + chunk_.run_after(end, enough, touched_);
    if (open > longest) longest = open;
  }
  return longest;
}

template <class Sync, class Still>
void Search<Sync, Still>::lower_bound(std::size_t leaf) noexcept {
  const std::uint64_t exact = RunBound::of(bound_of_leaf(leaf, RunBound::kMarks));
  // What was read is true only if the head stands.
  chunk_.bounds().lower(leaf, exact, slot_, still_);
}

template <class Sync, class Still>
std::size_t Search<Sync, Still>::longest() noexcept {
  std::size_t longest = 0;
  if (chunk_.granules() == 0) return 0;
  for (std::size_t leaf = 0;; ++leaf) {
    leaf = chunk_.bounds().next_leaf(leaf, RunBound::wanted(longest + 1), slot_, touched_);
    if (leaf == kNoLeaf) return longest;
    const std::size_t here = bound_of_leaf(leaf, chunk_.granules());
    if (here > longest) longest = here;
    const std::uint64_t exact = RunBound::of(here);
    if (exact < chunk_.bounds().hint(0, leaf)) chunk_.bounds().lower(leaf, exact, slot_, still_);
  }
}

}  // namespace mmkit::genalloc
