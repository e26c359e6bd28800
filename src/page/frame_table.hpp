// SPDX-License-Identifier: MIT
//
// FrameTable - the state of every page frame, and where a request fits.
//
// It knows numbers, not memory: it touches no page and calls no system. SimPageAllocator adds the
// memory, the locks and the checks of what callers hand in.
//
//            free ------ place_fresh ------> held <---- place_retained, place_resident,
//             ^                               |  ^      place_any
//        settle_free                       retain |
//             |                               v   |
//         departing <--- collect_oldest --- retained
//             |  ^--------- depart ---------- held (a run too long to retain)
//             +---------- settle_retained ----> retained (the system would not take it)
//
//   node 0            node 1                        a node's frames are adjacent; nodes are equal
//   |hhhrrh..hh.|.....|hhrr.........|               h held  r retained  . free
//               ^high                ^end           from `high` on no frame was ever handed out
//
// Units:      frames, numbered from 0
// Invariants: 1 a frame is taken exactly if it is held, retained or departing, and only one of them
//             2 from a node's high on, no frame has any state
//             3 runs tile: the first frame of each held and retained run is marked as a start, no
//               other frame is, and no run crosses nodes
//             4 a retained run's link gives its length, and it stands in its node's list for it
//             5 the order of age has exactly the retained runs
//             6 the counts are those of the maps; allocations - frees is the number of held runs
//             7 no run of free frames begins below its length's hint
// Locking:    none: caller serialises
// Complexity: retained run of the exact length O(1); fresh run O(1) amortised while filling, else
//             O(frames / 64); release O(1) a run; validate O(frames)
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/bitmap.hpp>
#include <mmkit/base/result.hpp>

#include "page/departing_runs.hpp"
#include "page/frame_link.hpp"
#include "page/free_hints.hpp"
#include "page/retained_runs.hpp"

namespace mmkit::page_detail {

/// Where a request was satisfied. No place: first is kNoFrame.
struct Place {
  FrameIndex first = kNoFrame;
  bool dirty = false;  ///< some frame was used before and kept its bytes; else all read as zero

  explicit operator bool() const noexcept { return first != kNoFrame; }
};

/// What a run that somebody hands in turns out to be.
enum class RunKind { held, not_held, other_size };

/// A node: a stretch of frames with lists and hints of its own.
struct FrameNode {
  FrameIndex begin = 0;
  FrameIndex end = 0;
  FrameIndex high = 0;  ///< no frame from here on was ever handed out
  FrameIndex held = 0;  ///< frames that are held
  RunsByLength retained;
  FreeHints hints;
};

class FrameTable {
 public:
  struct Counts {
    std::size_t held_pages = 0;
    std::size_t peak_pages = 0;
    std::size_t retained_pages = 0;
    std::size_t departing_pages = 0;
    std::uint64_t allocations = 0;
    std::uint64_t frees = 0;
  };

  /// The most frames that a table can describe: one index is kept for "none".
  static constexpr std::size_t kMaxFrames = std::size_t{kNoFrame} - 1;

  /// Bytes of memory that a table of this many frames needs.
  static std::size_t bytes_for(std::size_t frames) noexcept;

  /// `memory`: bytes_for(nodes * node_frames) zero bytes, better not yet committed. `nodes`: an
  /// array of `node_count`. Both outlive the table.
  FrameTable(std::byte* memory, FrameNode* nodes, unsigned node_count,
             FrameIndex node_frames) noexcept;

  /// \name Placing
  /// Each finds `pages` frames, the first a multiple of `align`, makes them held and tells where;
  /// or changes nothing. `node`: the one to prefer; kAnyNode when all are alike. The others follow
  /// in their order. `pages` is at least 1, `align` a power of two.
  ///@{
  /// In retained runs as they are, else in free frames. The usual way.
  Place place(std::size_t pages, std::size_t align, int node) noexcept {
    const Place single = place_last_freed(pages, align, node);
    return single ? single : place_somewhere(pages, align, node);
  }
  /// In retained frames alone, as they are or adjacent: what needs no new memory.
  Place place_resident(std::size_t pages, std::size_t align, int node) noexcept {
    const Place single = place_last_freed(pages, align, node);
    return single ? single : place_somewhere_resident(pages, align, node);
  }
  /// In whatever is not held, while nothing is departing: the last resort. Fails only when no
  /// frames that fit are left.
  Place place_any(std::size_t pages, std::size_t align, int node) noexcept;
  ///@}

  /// What the run is. `pages` may be anything; `first` is a frame.
  RunKind kind_of(FrameIndex first, std::size_t pages) const noexcept;

  /// Held run -> retained, the newest.
  void retain(FrameIndex first, FrameIndex pages) noexcept {
    FrameNode& node = node_of(first);
    unhold(node, first, pages);
    enter_retained(node, first, pages);
  }
  /// Held run -> departing.
  void depart(FrameIndex first, FrameIndex pages) noexcept;
  /// Retained runs, the oldest first -> departing, until at most `keep_pages` are retained.
  DepartingRuns collect_oldest(std::size_t keep_pages) noexcept;
  /// Departing frames of one node -> free.
  void settle_free(FrameSpan span) noexcept;
  /// Departing frames of one node -> one retained run, the newest.
  void settle_retained(FrameSpan span) noexcept;

  const Counts& counts() const noexcept { return counts_; }
  std::size_t frames() const noexcept { return frames_; }
  unsigned node_index(FrameIndex frame) const noexcept {
    return node_count_ == 1 ? 0 : frame / node_frames_;
  }
  /// Bytes of the table that describe frames ever handed out: what of it is committed, but for the
  /// rounding to pages.
  std::size_t descriptor_bytes() const noexcept;

  /// Tests every invariant. Errors: bad_format.
  Status validate() const noexcept;

 private:
  FrameNode& node_of(FrameIndex frame) noexcept { return nodes_[node_index(frame)]; }

  // The heart of the fast path: the single page of the first node that was freed last.
  Place place_last_freed(std::size_t pages, std::size_t align, int node) noexcept {
    if (pages != 1 || align != 1 || node > 0) return {};
    const FrameIndex run = nodes_[0].retained.head(0);
    if (run != kNoFrame) take_whole(nodes_[0], run, 1);
    return {run, /*dirty=*/true};
  }
  Place place_somewhere(std::size_t pages, std::size_t align, int node) noexcept;
  Place place_somewhere_resident(std::size_t pages, std::size_t align, int node) noexcept;
  Place place_retained(FrameNode& node, std::size_t pages, std::size_t align) noexcept;
  Place place_fresh(FrameNode& node, std::size_t pages, std::size_t align) noexcept;
  Place place_joined(FrameNode& node, std::size_t pages, std::size_t align) noexcept;
  Place place_unheld(FrameNode& node, std::size_t pages, std::size_t align) noexcept;

  // Makes frames held that are free or retained, cutting retained runs where they stick out.
  // Returns whether one was retained.
  bool carve(FrameNode& node, FrameIndex first, FrameIndex pages) noexcept;
  void cut_retained_run(FrameNode& node, FrameIndex run, FrameIndex first, FrameIndex end) noexcept;
  // A retained run -> held, as it is.
  void take_whole(FrameNode& node, FrameIndex run, FrameIndex pages) noexcept {
    node.retained.remove(links_, run, pages);
    by_age_.remove(links_, run);
    if (pages == 1) {
      bitmap::clear(retained_, run);
      bitmap::set(held_, run);
    } else {
      bitmap::clear_range(retained_, run, pages);
      bitmap::set_range(held_, run, pages);
    }
    counts_.retained_pages -= pages;
    count_held(node, pages);
  }
  void count_held(FrameNode& node, FrameIndex pages) noexcept {
    node.held += pages;
    counts_.held_pages += pages;
    if (counts_.held_pages > counts_.peak_pages) counts_.peak_pages = counts_.held_pages;
    ++counts_.allocations;
  }
  // Held -> nothing yet; the start mark stays.
  void unhold(FrameNode& node, FrameIndex first, FrameIndex pages) noexcept {
    if (pages == 1) {
      bitmap::clear(held_, first);
    } else {
      bitmap::clear_range(held_, first, pages);
    }
    node.held -= pages;
    counts_.held_pages -= pages;
    ++counts_.frees;
  }
  // Frames with a start mark -> retained, the newest.
  void enter_retained(FrameNode& node, FrameIndex first, FrameIndex pages) noexcept {
    if (pages == 1) {
      bitmap::set(retained_, first);
    } else {
      bitmap::set_range(retained_, first, pages);
    }
    node.retained.insert(links_, first, pages);
    by_age_.push_newest(links_, first);
    counts_.retained_pages += pages;
  }
  void raise_high(FrameNode& node, FrameIndex end) noexcept;

  Status validate_node(const FrameNode& node) const noexcept;
  Status validate_lists(const FrameNode& node) const noexcept;
  Status validate_runs(const FrameNode& node) const noexcept;
  Status validate_age() const noexcept;
  Status validate_counts() const noexcept;

  // A bit a frame each, and one more that is never set, behind the last; see the invariants.
  std::uint64_t* taken_;
  std::uint64_t* held_;
  std::uint64_t* retained_;
  std::uint64_t* start_;
  FrameLink* links_;
  FrameNode* nodes_;
  unsigned node_count_;
  FrameIndex node_frames_;
  std::size_t frames_;
  RunsByAge by_age_;
  Counts counts_;
};

inline RunKind FrameTable::kind_of(FrameIndex first, std::size_t pages) const noexcept {
  if (!bitmap::test(held_, first)) return RunKind::not_held;
  if (!bitmap::test(start_, first)) return RunKind::other_size;
  if (pages == 0 || pages > frames_ - first) return RunKind::other_size;
  // What follows must be no part of the run (a node's first frame never is), and what is in it no
  // part of another.
  const std::size_t end = first + pages;
  const bool goes_on = bitmap::test(held_, end) && !bitmap::test(start_, end);
  if (goes_on) return RunKind::other_size;
  if (pages == 1) return RunKind::held;
  const bool whole =
      bitmap::all_set(held_, first, pages) && bitmap::next_set(start_, first + 1, end) == end;
  return whole ? RunKind::held : RunKind::other_size;
}

}  // namespace mmkit::page_detail
