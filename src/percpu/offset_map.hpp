// SPDX-License-Identifier: MIT
//
// OffsetMap - which granules of one chunk's offset space are taken, and by what.
//
// Numbers alone: no memory, no lock, no notion of CPUs.
//
//   taken   16384 bits  a granule belongs to an allocation
//   starts  16384 bits  an allocation starts there; it ends before the next start or free granule
//   blocks  16 x        free granules at the left edge, at the right edge, in the longest run, in all
//
// First fit: a walk over the 16 block summaries finds the first block that a run ends in or fits
// in, carrying the free run that reaches over the edge; only there are bits looked at. An
// allocation that fits by length may not by alignment: the walk goes on in the same block, never
// past it. Summaries are exact after every call, so "no" is true.
// Units:      granules of 4 bytes; blocks of 1024 granules
// Invariants: 1 starts is a subset of taken; every taken run begins with a start
//             2 each block's summary is what its bits say
//             3 free_granules() is the sum over the blocks
// Locking:    none: caller serialises
// Complexity: find O(16 blocks + words of the blocks that may fit), take and release O(words)
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "percpu/geometry.hpp"

namespace mmkit::percpu {

class OffsetMap {
 public:
  static constexpr unsigned kNone = kGranules;

  OffsetMap() noexcept;

  /// The lowest aligned run of `count` free granules that touches no block of `closed`; kNone when
  /// there is none. `align` is a power of two, at most a block.
  unsigned find(unsigned count, unsigned align, BlockSet closed) const noexcept;

  /// Allocates a run that is free.
  void take(unsigned start, unsigned count) noexcept;
  /// Allocates up to out.size() runs of `count` granules, lowest first; how many. One walk serves
  /// all that fit into a block.
  unsigned take_many(unsigned count, unsigned align, BlockSet closed,
                     std::span<unsigned> out) noexcept;
  /// Frees the allocation that starts there; how many granules it had.
  unsigned release(unsigned start) noexcept;

  /// Whether an allocation starts there, and how many granules it has.
  bool is_start(unsigned granule) const noexcept;
  unsigned size_at(unsigned start) const noexcept;
  /// The start of the next allocation at or after `from`; kNone when there is none.
  unsigned next_start(unsigned from) const noexcept;

  unsigned free_granules() const noexcept { return free_; }
  unsigned free_granules(unsigned block) const noexcept { return blocks_[block].free; }
  /// The blocks in which nothing is taken.
  BlockSet empty_blocks() const noexcept { return empty_; }
  /// The longest run of free granules that touches no block of `closed`.
  unsigned longest(BlockSet closed) const noexcept;

  /// Whether the invariants hold, against a naive look at every bit.
  bool validate() const noexcept;

 private:
  struct Block {
    std::uint16_t left, right, longest, free;
    friend bool operator==(const Block&, const Block&) noexcept = default;
  };
  static constexpr unsigned kWords = kGranules / 64;
  static constexpr unsigned kBlockWords = kBlockGranules / 64;

  Block summarise(unsigned block) const noexcept;
  void refresh(unsigned first_granule, unsigned last_granule) noexcept;
  void mark(unsigned start, unsigned count) noexcept;

  std::array<std::uint64_t, kWords> taken_{};
  std::array<std::uint64_t, kWords> starts_{};
  std::array<Block, kBlocks> blocks_;
  BlockSet empty_ = kAllBlocks;
  unsigned free_ = kGranules;
};

}  // namespace mmkit::percpu
