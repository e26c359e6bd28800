// SPDX-License-Identifier: MIT
//
// DepartingRuns - runs on their way back to the operating system, in few and large pieces.
//
// A chain through FrameLink::next, so that a batch of any length needs no memory. The frames of the
// chain are nobody's else until the batch is settled: the chain is used without the lock of the
// tables.
// Locking:    none: whoever collected the batch owns it
// Complexity: sort O(n log n) for n runs, without memory; pop_joined O(runs joined)
#pragma once

#include <cstddef>

#include "page/frame_link.hpp"

namespace mmkit::page_detail {

/// Frames [first, first + pages).
struct FrameSpan {
  FrameIndex first = kNoFrame;
  FrameIndex pages = 0;
};

/// A batch of runs that have left the lists and await the operating system.
class DepartingRuns {
 public:
  /// `node_frames`: frames of a node; runs of two nodes are never joined.
  DepartingRuns(FrameLink* links, FrameIndex node_frames) noexcept
      : links_(links), node_frames_(node_frames) {}

  bool empty() const noexcept { return head_ == kNoFrame; }

  /// Adds a run, whose link knows its length.
  void push(FrameIndex run) noexcept {
    links_[run].next = head_;
    head_ = run;
  }

  /// Puts the runs into the order of their frames. Source: bottom-up merge sort of a list.
  void sort() noexcept {
    constexpr std::size_t kBins = 32;  // bin b holds 2^b runs; there are less than 2^32
    FrameIndex bins[kBins];
    for (FrameIndex& bin : bins) bin = kNoFrame;
    while (head_ != kNoFrame) {
      FrameIndex carry = head_;
      head_ = links_[head_].next;
      links_[carry].next = kNoFrame;
      std::size_t bin = 0;
      for (; bins[bin] != kNoFrame; ++bin) {
        carry = merge(bins[bin], carry);
        bins[bin] = kNoFrame;
      }
      bins[bin] = carry;
    }
    for (const FrameIndex bin : bins) head_ = merge(head_, bin);
  }

  /// Takes out the first runs that follow each other without a gap, as one span. The batch is
  /// sorted and not empty.
  FrameSpan pop_joined() noexcept {
    FrameSpan span{head_, links_[head_].pages};
    head_ = links_[head_].next;
    while (head_ == span.first + span.pages && head_ % node_frames_ != 0) {
      span.pages += links_[head_].pages;
      head_ = links_[head_].next;
    }
    return span;
  }

 private:
  FrameIndex merge(FrameIndex a, FrameIndex b) noexcept {
    FrameIndex merged = kNoFrame;
    FrameIndex* tail = &merged;
    while (a != kNoFrame && b != kNoFrame) {
      FrameIndex& lower = a < b ? a : b;
      *tail = lower;
      tail = &links_[lower].next;
      lower = *tail;
    }
    *tail = a != kNoFrame ? a : b;
    return merged;
  }

  FrameLink* links_;
  FrameIndex node_frames_;
  FrameIndex head_ = kNoFrame;
};

}  // namespace mmkit::page_detail
