// SPDX-License-Identifier: MIT
//
// Retained runs - the freed runs of one node by length, and those of all nodes by age.
//
//   heads    1: [7] -> [3]        a list for each length of 1..64 pages, last freed first,
//            2: none              and one for all that are longer
//           ...
//      longer: [100]              lengths_: bit n-1 is set while list n has a run
//
// The links lie in an array of FrameLink, one a frame, that the owner hands to each call.
// Units:      pages, and numbers of frames
// Invariants: 1 next and prev of neighbours name each other, so do newer and older
//             2 a run stands in the list of its length, and that list's bit is set
// Locking:    none: caller serialises
// Complexity: insert, remove O(1); find O(1) for an exact length without alignment, else O(runs)
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>

#include "page/frame_link.hpp"

namespace mmkit::page_detail {

/// The retained runs of one node, by length.
class RunsByLength {
 public:
  /// Lengths that have a list of their own.
  static constexpr std::size_t kExactLengths = 64;
  static constexpr std::size_t kLists = kExactLengths + 1;

  /// Where a request fits: in the run that starts at `run`, from frame `place` on.
  struct Fit {
    FrameIndex run = kNoFrame;
    FrameIndex place = kNoFrame;
  };

  RunsByLength() noexcept {
    for (FrameIndex& head : heads_) head = kNoFrame;
  }

  /// Puts a run in front of the list of its length, and notes the length in its link.
  void insert(FrameLink* links, FrameIndex first, FrameIndex pages) noexcept {
    const std::size_t list = list_of(pages);
    links[first].pages = pages;
    const FrameIndex head = heads_[list];
    links[first].next = head;
    links[first].prev = kNoFrame;
    if (head != kNoFrame) links[head].prev = first;
    heads_[list] = first;
    if (list < kExactLengths) lengths_ |= std::uint64_t{1} << list;
  }

  /// Takes out a run that is in, of `pages` pages.
  void remove(FrameLink* links, FrameIndex first, FrameIndex pages) noexcept {
    const std::size_t list = list_of(pages);
    const FrameIndex next = links[first].next;
    const FrameIndex prev = links[first].prev;
    if (next != kNoFrame) links[next].prev = prev;
    if (prev != kNoFrame) {
      links[prev].next = next;
    } else {
      heads_[list] = next;
      if (next == kNoFrame && list < kExactLengths) lengths_ &= ~(std::uint64_t{1} << list);
    }
  }

  /// Where `pages` frames that start at a multiple of `align` fit: in the run freed last of those
  /// of just this length, else in the shortest that is longer, at its low end. No run when none
  /// does.
  Fit find(const FrameLink* links, std::size_t pages, std::size_t align) const noexcept {
    std::uint64_t lists = pages > kExactLengths ? 0 : lengths_ & ~low_bits(list_of(pages));
    for (; lists != 0; lists &= lists - 1) {
      const FrameIndex head = heads_[static_cast<unsigned>(std::countr_zero(lists))];
      for (FrameIndex run = head; run != kNoFrame; run = links[run].next) {
        const FrameIndex place = place_in(links, run, pages, align);
        if (place != kNoFrame) return {run, place};
      }
    }
    return find_among_long(links, pages, align);
  }

  /// The first run of a list, for those who walk: `list` is below kLists.
  FrameIndex head(std::size_t list) const noexcept { return heads_[list]; }
  /// The list for a length.
  static constexpr unsigned list_of(std::size_t pages) noexcept {
    return static_cast<unsigned>(pages <= kExactLengths ? pages - 1 : kExactLengths);
  }
  /// Bit n-1: whether list n has a run.
  std::uint64_t lengths() const noexcept { return lengths_; }

 private:
  static FrameIndex place_in(const FrameLink* links, FrameIndex run, std::size_t pages,
                             std::size_t align) noexcept {
    const std::size_t skip = (0 - std::size_t{run}) & (align - 1);
    const std::size_t length = links[run].pages;
    if (skip > length || length - skip < pages) return kNoFrame;
    return static_cast<FrameIndex>(run + skip);
  }

  Fit find_among_long(const FrameLink* links, std::size_t pages, std::size_t align) const noexcept {
    Fit best;
    for (FrameIndex run = heads_[kExactLengths]; run != kNoFrame; run = links[run].next) {
      if (best.run != kNoFrame && links[run].pages >= links[best.run].pages) continue;
      const FrameIndex place = place_in(links, run, pages, align);
      if (place != kNoFrame) best = {run, place};
    }
    return best;
  }

  std::uint64_t lengths_ = 0;
  FrameIndex heads_[kLists];
};

/// The retained runs of all nodes, by the time of their free.
class RunsByAge {
 public:
  FrameIndex oldest() const noexcept { return oldest_; }
  FrameIndex newest() const noexcept { return newest_; }

  /// Enters a run as the newest.
  void push_newest(FrameLink* links, FrameIndex run) noexcept {
    insert_between(links, newest_, run, kNoFrame);
  }
  /// Enters `run` as the next newer after `older`, which is in.
  void insert_after(FrameLink* links, FrameIndex older, FrameIndex run) noexcept {
    insert_between(links, older, run, links[older].newer);
  }
  /// Takes out a run that is in.
  void remove(FrameLink* links, FrameIndex run) noexcept {
    const FrameIndex older = links[run].older;
    const FrameIndex newer = links[run].newer;
    (older != kNoFrame ? links[older].newer : oldest_) = newer;
    (newer != kNoFrame ? links[newer].older : newest_) = older;
  }

 private:
  void insert_between(FrameLink* links, FrameIndex older, FrameIndex run,
                      FrameIndex newer) noexcept {
    links[run].older = older;
    links[run].newer = newer;
    (older != kNoFrame ? links[older].newer : oldest_) = run;
    (newer != kNoFrame ? links[newer].older : newest_) = run;
  }

  FrameIndex oldest_ = kNoFrame;
  FrameIndex newest_ = kNoFrame;
};

}  // namespace mmkit::page_detail
